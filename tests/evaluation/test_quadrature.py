"""log Z by quadrature against closed forms and numpy's trapezoid rule."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate
from torch import Tensor, nn

from chainfree.checks import ContractError
from chainfree.energies import AnalyticEnergy, Banana, DoubleWell, Gaussian, GaussianMixture, Ring
from chainfree.evaluation import log_z_quadrature


@pytest.mark.parametrize(
    ("energy", "bounds", "points"),
    [
        (Gaussian([1.0], torch.tensor([[0.3]])), [(-4.0, 6.0)], 201),
        (DoubleWell(1, barrier=6.0), [(-3.0, 3.0)], 200),
        (Gaussian([0.0, 2.0], torch.tensor([[2.0, 0.8], [0.8, 1.0]])), [(-9.0, 9.0), (-5.0, 9.0)], 200),
        (Banana(scale=0.7, width=0.5), [(-4.5, 4.5), (-4.0, 12.0)], 300),
        (Ring((1.0, 2.0), noise=0.3), [(-4.0, 4.0), (-4.0, 4.0)], 200),
        (GaussianMixture(torch.tensor([[-2.0, 0.0, 0.0], [2.0, 1.0, 0.0]]), 0.5), [(-6.0, 6.0)] * 3, 61),
        (DoubleWell(3, barrier=4.0), [(-2.5, 2.5), (-6.0, 6.0), (-6.0, 6.0)], 64),
    ],
)
def test_quadrature_finds_known_partition_functions(
    energy: AnalyticEnergy, bounds: list[tuple[float, float]], points: int
) -> None:
    result = log_z_quadrature(energy.double(), bounds, points=points, dtype=torch.float64)
    assert result.value == pytest.approx(energy.log_z, abs=2e-6)
    assert result.standard_error < 1e-4
    assert result.effective_sample_size == (points + (points + 1) % 2) ** len(bounds)


def test_quadrature_is_the_trapezoid_rule() -> None:
    def energy(x: Tensor) -> Tensor:
        return x[:, 0].abs() + (x[:, 0] + 2 * x[:, 1]).square()

    result = log_z_quadrature(energy, [(-20.0, 18.0), (-10.0, 12.0)], points=31, dtype=torch.float64)
    a, b = np.linspace(-20, 18, 31), np.linspace(-10, 12, 31)
    values = np.exp(-np.abs(a[:, None]) - (a[:, None] + 2 * b) ** 2)
    fine = np.log(integrate.trapezoid(integrate.trapezoid(values, b), a))
    coarse = np.log(integrate.trapezoid(integrate.trapezoid(values[::2, ::2], b[::2]), a[::2]))
    assert result.value == pytest.approx(fine, abs=1e-12)
    assert result.standard_error == pytest.approx(abs(fine - coarse), abs=1e-12)


def test_quadrature_adds_constants_and_survives_their_size() -> None:
    for shift in (1e4, -1e4):
        result = log_z_quadrature(lambda x, c=shift: x[:, 0].square() / 2 + c, [(-9.0, 9.0)], dtype=torch.float64)
        assert result.value == pytest.approx(0.5 * math.log(2 * math.pi) - shift, abs=1e-8)


def test_quadrature_keeps_no_graph_and_asks_in_the_given_dtype() -> None:
    asked = []

    def energy(x: Tensor) -> Tensor:
        asked.append((x.dtype, torch.is_grad_enabled()))
        return x.square().sum(-1)

    log_z_quadrature(energy, [(-6.0, 6.0)])
    log_z_quadrature(energy, [(-6.0, 6.0)], dtype=torch.float64)
    assert asked == [(torch.float32, False), (torch.float64, False)]


@pytest.mark.parametrize(
    ("bounds", "options", "words"),
    [
        ([(-1.0, 1.0)] * 4, {}, "quadrature is for 1 to 3 dimensions, got 4; use log_z_importance"),
        ([], {}, "1 to 3 dimensions, got 0"),
        ([(-1.5, 1.5)], {}, r"% of the mass lies on the edge of bounds=\[\(-1.5, 1.5\)\]; widen them"),
        ([(-9.0, 9.0), (-9.0, 2.0)], {"points": 41}, "of the mass lies on the edge"),
        ([(-9.0, 9.0), (-2.0, 9.0)], {"points": 41}, "of the mass lies on the edge"),
        ([(1.0, 1.0)], {}, "low < high"),
        ([(2.0, 1.0)], {}, "low < high"),
        ([(-math.inf, 1.0)], {}, "bounds must be finite"),
        ([(-9.0, 9.0)], {"points": 2}, "points must be at least 3, got 2"),
        ([(-9.0, 9.0)], {"points": 0}, "points must be a whole number"),
        ([(-9.0, 9.0)], {"points": 9.5}, "points must be a whole number"),
    ],
)
def test_quadrature_refuses(bounds: list[tuple[float, float]], options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        log_z_quadrature(lambda x: x.square().sum(-1) / 2, bounds, **options)


def test_quadrature_refuses_energies_that_are_no_numbers_or_out_of_shape() -> None:
    with pytest.raises(ValueError, match="mass"):
        log_z_quadrature(lambda x: math.nan * x[:, 0], [(-1.0, 1.0)])
    with pytest.raises(ContractError):
        log_z_quadrature(nn.Linear(1, 1), [(-1.0, 1.0)])
