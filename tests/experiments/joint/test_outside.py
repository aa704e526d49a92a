"""Rows that no classifier was trained for."""

from __future__ import annotations

import pytest
import torch
from matplotlib.figure import Figure

from chainfree.experiments import JointOutside
from chainfree.experiments.joint import outside


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


def test_what_has_no_energy_or_no_samples_is_refused() -> None:
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
