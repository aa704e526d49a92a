"""Ways between images, with a model whose middles are known."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from chainfree.experiments import LatentInterpolation
from chainfree.experiments.latent.interpolation import _pairs


def _settings(**changes: Any) -> dict[str, Any]:
    return {
        "data": "halves",
        "method": {"prior": "normal"},
        "networks": {"latent": 3, "encoder_widths": (4, 4), "prior_widths": (8,)},
        "schedule": {"seconds": 2.0, "batch": 20},
        "shown": 2,
        "points": 5,
        "judged": 15,
        **changes,
    }


def test_middles_are_judged_and_ways_are_shown() -> None:
    figures, picture = LatentInterpolation(**_settings()).run()
    assert set(figures["frechet_of_middle"]) == {"latents", "latents, straight", "pixels"}
    # a standard normal's energy is half the square of the length, and the middle's length is the mean of the ends'
    energy = figures["energy"]
    assert energy["middle"] <= 0.5 * (energy["start"] + energy["end"])
    assert figures["judged"] <= 15 and figures["frechet_of_images"] < figures["frechet_of_middle"]["pixels"]
    (axes,) = picture.axes
    (image,) = axes.get_images()
    shape = image.get_array().shape  # type: ignore[union-attr]
    assert shape[1] / shape[0] == pytest.approx((5 + 2) / 4, rel=0.1)  # two rows a pair, the images at the ends
    json.dumps(figures)


def test_pairs_are_of_different_classes_and_of_different_images() -> None:
    y = torch.arange(400) % 4
    first, second, rest = _pairs(y, 30, torch.Generator().manual_seed(0))
    assert len(first) == len(second) == 30 and bool((y[first] != y[second]).all())
    assert len(set(first.tolist()) | set(second.tolist())) == 60
    assert len(set(rest.tolist())) == 300 and not set(rest.tolist()) & {*first.tolist(), *second.tolist()}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"points": 2}, "points must be at least 3"),
        ({"seeds": [0, 1]}, "one seed at a time"),
        ({"method": {"prior": "flat"}}, "prior must be one of"),
        ({"shown": 0}, "shown"),
        ({"data": "cats"}, "data must be one of"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LatentInterpolation(**_settings(**changes))
