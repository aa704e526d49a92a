"""The experiments, at sizes at which the answer is known and training takes a second."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from chainfree.experiments import EXPERIMENTS, Ablation, Nearsightedness, WStabilisation


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_only_losses_that_see_far_modes_find_their_weight() -> None:
    """Figure 1 of the paper: two modes ten standard deviations apart, the left one with weight 0.2.

    The expected heights are closed forms: where modes do not overlap, score matching is flat, and maximum likelihood rises
    by the KL divergence of the two weights' Bernoulli laws.
    """
    figures, picture = Nearsightedness(rows=2048, t=(0.25, 64.0), draws=32, grid=49, seeds=(0, 1)).run()
    kl = 0.2 * math.log(0.2 / 0.5) + 0.8 * math.log(0.8 / 0.5)
    assert set(figures) == {"score matching", "maximum likelihood", "ED, t = 0.25", "ED, t = 64"}
    for seed in (0, 1):
        assert figures["maximum likelihood"]["minimiser"][seed] == pytest.approx(0.2, abs=0.03)
        assert figures["maximum likelihood"]["rise_at_half"][seed] == pytest.approx(kl, abs=0.04)
        assert figures["ED, t = 64"]["minimiser"][seed] == pytest.approx(0.2, abs=0.06)
        assert figures["ED, t = 64"]["rise_at_half"][seed] > 0.05
        for blind in ("score matching", "ED, t = 0.25"):
            assert figures[blind]["rise_at_half"][seed] < 1e-3
    assert isinstance(picture, Figure)


def test_w_of_one_learns_the_curvature_and_w_of_zero_exaggerates_it() -> None:
    figures, picture = WStabilisation(rows=1024, w=(0.0, 1.0), steps=400, batch=128, width=16, seeds=(0, 1)).run()
    assert set(figures) == {"w=0", "w=1"}
    assert all(0.6 < curvature < 1.4 for curvature in figures["w=1"]["curvature"])  # 1 in truth
    for plain, stable in zip(figures["w=0"]["curvature"], figures["w=1"]["curvature"], strict=True):
        assert plain > 1.5 * stable
    assert set(figures["w=1"]["ended"]) == {"completed"}
    assert isinstance(picture, Figure)


def test_a_diverging_seed_is_told_and_does_not_end_the_experiment() -> None:
    figures, _ = WStabilisation(rows=64, w=(0.0,), steps=60, batch=32, width=8, lr=1e3, seeds=(0,)).run()
    assert figures["w=0"]["ended"] == ["diverged"]
    assert np.isfinite(figures["w=0"]["curvature"]).all()


def test_the_ablation_has_a_number_for_every_setting_and_seed() -> None:
    """Also where nothing is learned, at a tiny t after few steps: the base keeps the energy integrable."""
    experiment = Ablation(t=(0.01, 1.0), draws=(1,), w=(2.0,), steps=15, batch=16, points=201, seeds=(0, 1))
    figures, picture = experiment.run()
    assert {name: set(sweep) for name, sweep in figures.items()} == {
        "t": {"0.01", "1", "log-uniform 0.05 to 4"},
        "draws": {"1"},
        "w": {"2"},
    }
    gaps = [gap for sweep in figures.values() for rows in sweep.values() for gap in rows]
    assert len(gaps) == 10
    assert all(0 < gap < 5 for gap in gaps)  # a KL divergence; a normal of the data's size is about 2 nats away
    assert isinstance(picture, Figure)


@pytest.mark.parametrize("make", [lambda: Nearsightedness(rows=64, t=(2.0,), draws=2, grid=5)])
def test_equal_seeds_give_equal_figures(make: Callable[[], Any]) -> None:
    torch.manual_seed(1)
    first = make().run()[0]
    before = torch.get_rng_state()
    assert make().run()[0] == first
    assert torch.equal(before, torch.get_rng_state())
    by_seed = first["ED, t = 2"]["rise_at_half"]
    assert len(set(by_seed)) == 3  # the seeds differ


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("nearsightedness", {"rows": 0}),
        ("nearsightedness", {"rows": 1.5}),
        ("nearsightedness", {"rows": True}),
        ("nearsightedness", {"weight": 0.0}),
        ("nearsightedness", {"weight": 1.0}),
        ("nearsightedness", {"t": ()}),
        ("nearsightedness", {"t": (1.0, -1.0)}),
        ("nearsightedness", {"t": 1.0}),
        ("nearsightedness", {"t": (1.0, 1.0)}),
        ("nearsightedness", {"draws": 0}),
        ("nearsightedness", {"grid": 0}),
        ("nearsightedness", {"seeds": ()}),
        ("nearsightedness", {"seeds": (-1,)}),
        ("nearsightedness", {"seeds": (0.5,)}),
        ("nearsightedness", {"seeds": "012"}),
        ("w_stabilisation", {"w": (-0.1,)}),
        ("w_stabilisation", {"batch": 5000}),
        ("w_stabilisation", {"lr": 0.0}),
        ("w_stabilisation", {"depth": 0}),
        ("ablation", {"density": "none"}),
        ("ablation", {"t": (0.0,)}),
        ("ablation", {"w": (0.0,)}),
        ("ablation", {"t_range": (1.0,)}),
        ("ablation", {"t_range": (2.0, 1.0)}),
        ("ablation", {"draws": (0,)}),
        ("ablation", {"bounds": 0.0}),
        ("ablation", {"default_w": -1.0}),
    ],
)
def test_settings_out_of_range_are_named(name: str, changes: dict[str, Any]) -> None:
    (setting,) = changes
    with pytest.raises(ValueError) as caught:
        EXPERIMENTS[name](**changes)
    if setting not in ("density", "t_range"):
        assert setting in str(caught.value)
    assert "\n" not in str(caught.value)
