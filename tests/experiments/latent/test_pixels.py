"""The figure about pixels and latents, on small images."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch

from chainfree.datasets import Images
from chainfree.experiments import PixelsAndLatents
from chainfree.experiments.latent import pixels, runs
from chainfree.losses import EnergyDiscrepancy


def _settings(**changes: Any) -> dict[str, Any]:
    return {
        "widths": (8, 8),
        "steps": 40,
        "batch": 20,
        "chain_steps": 3,
        "methods": {"autoencoder": {"prior": "normal"}, "latents": {"draws": 2}},
        "networks": {"latent": 3, "encoder_widths": (4, 4), "prior_widths": (8,)},
        "schedule": {"seconds": 2.0, "batch": 20},
        **changes,
    }


@pytest.fixture
def digits_and_clothes(monkeypatch: pytest.MonkeyPatch) -> None:
    halves = runs.LATENT_DATA["halves"]
    monkeypatch.setitem(runs.LATENT_DATA, "mnist", halves)
    flat = Images(torch.full((40, 1, 8, 8), 128, dtype=torch.uint8), torch.zeros(40, dtype=torch.int64))
    monkeypatch.setitem(runs.LATENT_DATA, "fashion_mnist", lambda split: flat)
    monkeypatch.setattr(pixels, "_JUDGED", 40)
    monkeypatch.setattr(pixels, "_SHOWN", 4)


@pytest.mark.usefixtures("digits_and_clothes")
def test_every_energy_is_asked_about_every_kind() -> None:
    figures, picture = PixelsAndLatents(**_settings(steps=150, noise=0.5)).run()
    latent = {f"{name}{part}" for name in ("autoencoder", "latents") for part in ("", ": likelihood", ": prior")}
    assert set(figures["auroc"]) == {"pixels", "mean-pool", *latent}
    assert all(set(found) == {"noise", "middles", "clothes"} for found in figures["auroc"].values())
    assert set(figures["loss_above_floor"]) == {"pixels", "mean-pool", "latents"}
    assert figures["auroc"]["pixels"]["noise"] > 0.6  # what it has learned from
    # the decoder has not seen such noise, and its latents are those of the images
    assert figures["auroc"]["autoencoder: likelihood"]["noise"] > 0.9
    # the more noise, the easier it is told
    floors = figures["loss_above_floor"]["pixels"]
    assert floors["0.01"] > floors["0.1"] > floors["1.0"] > 0
    assert len(picture.axes) == 1
    json.dumps(figures)


def test_the_floor_is_where_all_draws_are_told() -> None:
    x = torch.zeros(30, 3)
    source = torch.Generator().manual_seed(0)
    for w, draws in ((1.0, 8), (0.5, 3)):
        loss = EnergyDiscrepancy(draws=draws, w=w)
        told = pixels.above_floor(loss, lambda rows: 1e4 * (rows != 0).any(1), x, source)
        assert told == pytest.approx(0, abs=1e-6)
        flat = pixels.above_floor(loss, lambda rows: 0 * rows.sum(1), x, source)
        assert flat == pytest.approx(math.log(w / draws + 1) - math.log(w / draws), abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"t": 0.0}, "t must be"),
        ({"steps": 0}, "steps"),
        ({"seeds": [1, 2]}, "one seed"),
        ({"methods": {"latents": {"lr": -1.0}}}, "lr must be"),
        ({"floors": [0.0]}, "floors must be"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PixelsAndLatents(**_settings(**changes))
