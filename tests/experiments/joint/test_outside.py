"""Rows that no classifier was trained for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure

from chainfree.energies import JointEnergy
from chainfree.engine import TrainingDivergedError
from chainfree.experiments import JointOutside
from chainfree.experiments.joint import networks, outside
from chainfree.samplers import Resampled


def test_rows_outside_are_told_by_every_score(monkeypatch: pytest.MonkeyPatch) -> None:
    both_dark = torch.full((60, 1, 8, 8), -0.9)
    monkeypatch.setitem(outside.OUTSIDE, "dark", lambda task: both_dark)
    small = {"kind": "network", "widths": [8], "steps": 60, "batch": 32, "labelled": 32, "ema": 0.9}
    vera = small | {"marginal": "vera", "latent": 2, "generator_channels": [8], "first_moment": 0.0}
    experiment = JointOutside(
        task="halves",
        outside=["dark"],
        methods={
            "all": {
                "supervised": small,
                "vera": vera,
                "normal": {"kind": "normal_classes"},
                "discriminant": {"kind": "discriminant"},
            }
        },
        samples_of="vera",
        seeds=(0, 1),
    )
    figures, picture = experiment.run()
    for key in ("auroc", "average_precision", "missed_at_95"):
        assert set(figures[key]["dark"]) == {"max_probability", "energy", "gradient_norm"}
        for score, by_method in figures[key]["dark"].items():
            only_classes = {"discriminant"} if score == "max_probability" else set()
            assert set(by_method) == {"supervised", "vera", "normal"} | only_classes
            assert all(0 <= found["mean"] <= 1 and len(found["seeds"]) == 2 for found in by_method.values())
    assert figures["accuracy"]["supervised"]["mean"] > 0.95
    # a supervised network is least sure of what is neither half
    assert figures["auroc"]["dark"]["max_probability"]["supervised"]["mean"] > 0.9
    # dark everywhere is far from either half's normal, and on the border between them
    assert figures["auroc"]["dark"]["energy"]["normal"]["mean"] > 0.99
    assert figures["auroc"]["dark"]["max_probability"]["discriminant"]["mean"] > 0.9
    # a density of halves does not hold what has none
    assert figures["auroc"]["dark"]["energy"]["vera"]["mean"] > 0.9
    assert isinstance(picture, Figure)


def test_what_has_no_samples_or_no_images_is_refused() -> None:
    network = {"all": {"a": {"kind": "network"}}}
    for methods, names, samples, words in (
        ({"all": {"a": {"kind": "discriminant"}}}, ["mnist"], "a", "samples_of must be a method with a generator"),
        (network, ["cats"], "a", "outside must be some of"),
        (network, [], "a", "outside must be some of"),
        (network, ["mnist"], "b", "samples_of must be a method with a generator"),
        (network, ["mnist"], "a", "samples_of must be a method with a generator"),
    ):
        with pytest.raises(ValueError, match=words):
            JointOutside(task="fashion", outside=names, methods=methods, samples_of=samples)
    vera = {"all": {"a": {"kind": "network", "marginal": "vera"}}}
    for task, words in (("har", "task must be one of fashion"), ("cifar10", "mnist has other images than cifar10")):
        with pytest.raises(ValueError, match=words):
            JointOutside(task=task, outside=["mnist"], methods=vera, samples_of="a")


def test_a_class_that_the_generator_lacks_is_black(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a method that diverges with every seed leaves the others their figures."""
    monkeypatch.setitem(outside.OUTSIDE, "dark", lambda task: torch.full((20, 1, 8, 8), -0.9))

    def lacking(energy: object, draws: torch.Tensor, y: int, n: int, **options: object) -> Resampled:
        assert y == 1
        return Resampled(draws[:n].zero_(), torch.tensor(1.0))

    monkeypatch.setattr(outside, "resample_class", lacking)
    monkeypatch.setattr(JointEnergy, "class_log_probs", lambda self, x: torch.tensor([[-50.0, 0.0]]).expand(len(x), 2))
    small = {"kind": "network", "widths": [8], "steps": 3, "batch": 8, "labelled": 8}
    vera = small | {"marginal": "vera", "latent": 2, "generator_channels": [8]}
    settings: dict[str, Any] = {"task": "halves", "outside": ["dark"], "samples_of": "vera", "seeds": (0,)}
    JointOutside(methods={"all": {"vera": vera}}, **settings, found="notes.jsonl").run()
    (line,) = [line for line in Path("notes.jsonl").read_text().splitlines() if line]
    drawn = torch.tensor(json.loads(line)["found"]["samples"])
    assert drawn.shape == (24, 1, 8, 8) and drawn[:12].max() == 0 and drawn[12:].min() > 100

    def diverging(*args: object, **options: object) -> object:
        raise TrainingDivergedError("loss is nan")

    monkeypatch.setattr(networks.Engine, "fit", diverging)
    methods = {"all": {"vera": vera, "normal": {"kind": "normal_classes"}}}
    figures, picture = JointOutside(methods=methods, **settings, found="others.jsonl").run()
    assert figures["diverged"] == {"vera": 1, "normal": 0}
    assert set(figures["accuracy"]) == {"normal"} and isinstance(picture, Figure)
