"""A long training goes on where it was stopped, on rows that are shifted and mirrored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from chainfree.experiments import JointTraining
from chainfree.experiments.joint.augment import augmented


def test_a_long_training_goes_on_where_it_was_stopped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings: dict[str, Any] = {
        "task": "halves",
        "depth": 10,
        "widen": 1,
        "latent": 2,
        "generator_channels": [4],
        "entropy_samples": 2,
        "classification": 1.0,
        "lr": 1e-3,
        "warmup": 2,
        "batch": 8,
        "steps": 6,
        "shift": 1,
        "every": 2,
        "held_out": 50,
        "ema": 0.5,
        "device": "cpu",
    }
    whole, picture = JointTraining(folder=str(tmp_path / "whole"), **settings).run()
    assert [look["step"] for look in whole["held_out_curve"]] == [2, 4, 6]
    assert whole["stopped"] == "completed"
    assert isinstance(picture, Figure)
    parts = [JointTraining(folder=str(tmp_path / "parts"), minutes=1e-9, **settings).run()[0] for _ in range(6)]
    assert [found["steps"] for found in parts] == [1, 2, 3, 4, 5, 6]
    assert all("minutes are over" in found["stopped"] for found in parts[:5])
    assert not any("accuracy" in found for found in parts[:5])  # the test rows are for the end
    for key in ("accuracy", "nll", "ece"):
        assert parts[-1][key] == whole[key]  # bit for bit
        assert parts[-1]["held_out_curve"][-1][key] == whole["held_out_curve"][-1][key]
    assert whole["nll"] != whole["held_out_curve"][-1]["nll"]  # other rows
    assert parts[-1]["seconds_of_training"] > parts[0]["seconds_of_training"]
    assert "'step': 6" in capsys.readouterr().out


@pytest.mark.parametrize("marginal", ["none", "sgld"])
def test_what_vera_is_compared_with_trains_in_the_same_loop(marginal: str, tmp_path: Path) -> None:
    found, _ = JointTraining(
        task="halves",
        marginal=marginal,  # type: ignore[arg-type]
        depth=10,
        widen=1,
        batch=8,
        steps=2,
        every=2,
        held_out=50,
        device="cpu",
        folder=str(tmp_path / marginal),
    ).run()
    assert found["stopped"] == "completed" and "accuracy" in found
    energies = [name for name in found["held_out_curve"][-1] if name.startswith("energy")]
    assert bool(energies) == (marginal == "sgld")


def test_augmented_images_are_shifted_or_mirrored_and_every_way_occurs() -> None:
    source = torch.Generator().manual_seed(0)
    image = torch.randn(1, 2, 4, 5)
    drawn = augmented(image.expand(400, -1, -1, -1), shift=1, noise=0.0, generator=source)
    padded = np.pad(image[0].numpy(), ((0, 0), (1, 1), (1, 1)), mode="reflect")
    ways = [
        padded[:, i : i + 4, j : j + 5][:, :, ::step] for i in range(3) for j in range(3) for step in (1, -1)
    ]  # 18 equally likely ones
    counts = [sum(np.array_equal(one, way) for one in drawn.numpy()) for way in ways]
    assert sum(counts) == 400 and min(counts) > 5 and max(counts) < 50
    noised = augmented(image.expand(400, -1, -1, -1), shift=0, noise=0.5, generator=source)
    straight, turned = noised - image, noised - image.flip(3)
    least = torch.minimum(straight.flatten(1).norm(dim=1), turned.flatten(1).norm(dim=1))
    assert float((least.square() / 40).mean()) == pytest.approx(0.25, rel=0.1)
