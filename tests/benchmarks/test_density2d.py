"""The planar benchmark's judgement, against a truth and a shifted copy of it."""

from __future__ import annotations

import math

import pytest
import torch
from benchmarks.density2d.methods import METHODS
from benchmarks.density2d.protocol import DENSITIES, judged
from benchmarks.density2d.report import judgement
from benchmarks.density2d.search import read_settings

from chainfree.datasets import toy_density
from chainfree.energies import Gaussian, GaussianMixture


def test_the_truth_has_no_gap() -> None:
    truth = toy_density("8gaussians")
    assert isinstance(truth, GaussianMixture)
    found = judged(lambda x: truth(x) + 3.0, truth, 10, 1.0, 77)
    assert found.gap == pytest.approx(0.0, abs=1e-4)
    assert found.weight_error == pytest.approx(0.0, abs=1e-4)
    assert found.distance is not None and found.distance < 0.1


def test_a_gap_is_the_divergence_from_the_truth() -> None:
    """Of two normals, where it has a closed form; the far one would be cut by a square of 8."""
    truth, model = Gaussian(torch.zeros(2)), Gaussian(torch.zeros(2), 9.0 * torch.eye(2))
    found = judged(model, truth, 10, 1.0, 77)
    assert found.gap == pytest.approx(math.log(9.0) - 1 + 1 / 9, abs=0.02)


def test_mass_at_the_edge_is_no_result() -> None:
    found = judged(lambda x: 0.0 * x[:, 0], Gaussian(torch.zeros(2)), 10, 1.0, 77)
    assert found.gap is None
    assert found.reason == "mass lies at the edge of the square"


def test_a_lead_within_chance_is_a_tie() -> None:
    """In ratios: a wild method is tied with nothing."""
    first, near, far, wild, failed, *others = METHODS
    runs: dict[str, list[float | None]] = {name: [1.0, 1.1, 1.2] for name in others}
    runs |= {first: [0.1, 0.2, 0.3], near: [0.1, 0.25, 0.3], far: [0.3, 0.59, 0.9], wild: [0.3, 8.0, 1000.0]}
    runs[failed] = [0.1, None, 0.1]
    found = judgement({name: dict.fromkeys(DENSITIES, gaps) for name, gaps in runs.items()})
    assert found["first"] == dict.fromkeys(DENSITIES, first)
    assert found["tied"] == {density: [first, near] for density in DENSITIES}


def test_the_settings_are_those_of_the_methods() -> None:
    assert set(read_settings()) == set(METHODS)
