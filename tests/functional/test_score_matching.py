"""Score matching against closed forms, finite differences and its limits."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from chainfree.checks import ContractError
from chainfree.energies import MLP, ConvNet
from chainfree.functional import exact_score_matching, sliced_score_matching


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _rows(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=_seeded(seed))


def _by_differences(energy: nn.Module, x: Tensor, h: float = 1e-4) -> tuple[Tensor, Tensor]:
    """Gradient (B, D) and Laplacian (B,) by central differences."""
    gradient, laplacian = torch.zeros(len(x), x[0].numel(), dtype=x.dtype), torch.zeros(len(x), dtype=x.dtype)
    for i in range(x[0].numel()):
        step = torch.zeros(x[0].numel(), dtype=x.dtype)
        step[i] = h
        step = step.view(x.shape[1:])
        with torch.no_grad():
            up, here, down = energy(x + step), energy(x), energy(x - step)
        gradient[:, i] = (up - down) / (2 * h)
        laplacian += (up - 2 * here + down) / h**2
    return gradient, laplacian


def _quadratic(precision: Tensor, mean: Tensor, x: Tensor) -> Tensor:
    return 0.5 * ((x - mean) @ precision * (x - mean)).sum(1)


@pytest.mark.parametrize(
    ("make", "event"),
    [
        (lambda: MLP(3, width=16, depth=2), (3,)),
        (lambda: ConvNet(size=4, widths=(4,), activation="softplus"), (1, 4, 4)),
    ],
)
def test_exact_values_are_those_of_finite_differences(make: Callable[[], nn.Module], event: tuple[int, ...]) -> None:
    energy = make().double()
    x = _rows(6, *event)
    gradient, laplacian = _by_differences(energy, x)
    expected = 0.5 * gradient.square().sum(1) - laplacian
    torch.testing.assert_close(exact_score_matching(energy, x), expected, rtol=1e-5, atol=1e-6)


def test_normal_energies_have_a_closed_form() -> None:
    factor, mean, x = _rows(4, 4, seed=2), _rows(4, seed=3), _rows(9, 4)
    precision = factor @ factor.T + torch.eye(4, dtype=torch.float64)
    expected = 0.5 * ((x - mean) @ precision).square().sum(1) - precision.trace()
    torch.testing.assert_close(exact_score_matching(lambda r: _quadratic(precision, mean, r), x), expected)


def test_a_standard_normal_has_minus_a_half_in_the_mean() -> None:
    # quadrature instead of draws: nodes and weights of N(0, 1)
    nodes, weights = np.polynomial.hermite_e.hermegauss(20)
    x = torch.from_numpy(nodes).unsqueeze(1)
    values = exact_score_matching(lambda r: 0.5 * r[:, 0].square(), x)
    assert float(values.detach() @ torch.from_numpy(weights / weights.sum())) == pytest.approx(-0.5, abs=1e-12)


def test_it_is_the_small_noise_limit_of_energy_discrepancy_over_its_variance() -> None:
    """ED_t(x) = E(x) - E[E_q(x + sqrt(t) xi)], E_q(y) = -log E[exp(-E(y + sqrt(t) xi'))], by Gauss-Hermite quadrature."""
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(40))
    weights = weights / weights.sum()
    x = torch.linspace(-1.5, 1.5, 7, dtype=torch.float64)

    def energy(r: Tensor) -> Tensor:
        return 0.25 * r**4 - 0.5 * r**2 + 0.3 * r

    def over_variance(t: float) -> Tensor:
        y = x[:, None] + t**0.5 * nodes
        potential = -((-energy(y[..., None] + t**0.5 * nodes)).exp() @ weights).log()
        return (energy(x) - potential @ weights) / t

    limit = exact_score_matching(lambda r: energy(r[:, 0]), x.unsqueeze(1)).detach()
    coarse, fine = (float((over_variance(t) - limit).abs().max()) for t in (2e-3, 1e-3))
    assert fine < 0.05
    assert coarse / fine == pytest.approx(2.0, rel=0.05)  # of first order in t


def test_sliced_is_exact_in_the_mean_over_all_signs() -> None:
    """The 2^D sign vectors are the whole law of a projection: their exact mean is the exact loss."""
    energy, x = MLP(3, width=16, depth=2).double(), _rows(5, 3)
    gradient, _ = _by_differences(energy, x)
    h = 1e-4
    reduced, plain = torch.zeros(5, dtype=torch.float64), torch.zeros(5, dtype=torch.float64)
    table = {}
    for signs in itertools.product([-1.0, 1.0], repeat=3):
        v = torch.tensor(signs, dtype=torch.float64)
        with torch.no_grad():
            curvature = (energy(x + h * v) - 2 * energy(x) + energy(x - h * v)) / h**2
        table[signs] = (0.5 * gradient.square().sum(1) - curvature, 0.5 * (gradient @ v).square() - curvature)
        reduced += table[signs][0] / 8
        plain += table[signs][1] / 8
    exact = exact_score_matching(energy, x)
    torch.testing.assert_close(reduced, exact, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(plain, exact, rtol=1e-4, atol=1e-5)
    for place, variance_reduction in enumerate([True, False]):
        one = sliced_score_matching(energy, x, variance_reduction=variance_reduction, generator=_seeded())
        possible = torch.stack([values[place] for values in table.values()])
        assert bool(((one - possible).abs() < 1e-5).any(dim=0).all())


@pytest.mark.parametrize("variance_reduction", [True, False])
def test_many_projections_come_near_the_exact_loss(variance_reduction: bool) -> None:
    factor, x = _rows(3, 3, seed=2), _rows(4, 3)
    precision = factor @ factor.T

    def energy(r: Tensor) -> Tensor:
        return _quadratic(precision, torch.zeros(3, dtype=torch.float64), r)

    n = 40_000
    single = sliced_score_matching(
        energy, x.repeat(n, 1), variance_reduction=variance_reduction, generator=_seeded()
    ).view(n, 4)
    error = (single.mean(0) - exact_score_matching(energy, x)).abs()
    assert bool((error < 4 * single.std(0) / n**0.5).all())
    many = sliced_score_matching(
        energy, x.repeat(2000, 1), projections=8, variance_reduction=variance_reduction, generator=_seeded(3)
    ).view(2000, 4)
    # averages of eight independent projections have an eighth of the variance
    torch.testing.assert_close(many.var(0), single.var(0) / 8, rtol=0.15, atol=1e-12)


def test_variance_reduction_leaves_no_noise_where_the_hessian_is_diagonal() -> None:
    x = _rows(7, 3)

    def energy(r: Tensor) -> Tensor:
        return (r**4).sum(1) + r[:, 0]

    exact = exact_score_matching(energy, x)
    torch.testing.assert_close(sliced_score_matching(energy, x, generator=_seeded()), exact)
    assert not torch.allclose(sliced_score_matching(energy, x, variance_reduction=False, generator=_seeded()), exact)


def test_every_row_has_its_own_projection() -> None:
    x = torch.ones(64, 3, dtype=torch.float64)
    values = sliced_score_matching(lambda r: r.prod(1), x, generator=_seeded())
    assert len(values.unique()) > 1


def test_an_affine_energy_has_no_curvature() -> None:
    slope = torch.tensor([3.0, 4.0])
    x = torch.randn(5, 2)
    torch.testing.assert_close(exact_score_matching(lambda r: r @ slope, x), torch.full((5,), 12.5))
    torch.testing.assert_close(sliced_score_matching(lambda r: r @ slope, x), torch.full((5,), 12.5))


@pytest.mark.parametrize("function", [exact_score_matching, sliced_score_matching])
def test_the_caller_s_rows_stay_as_they_are(function: Callable[[Any, Tensor], Tensor]) -> None:
    energy, x = MLP(2, width=8, depth=1), torch.randn(4, 2)
    kept = x.clone()
    function(energy, x).sum().backward()
    assert not x.requires_grad
    assert x.grad is None
    assert torch.equal(x, kept)
    with torch.no_grad():
        assert not function(energy, x).requires_grad


def test_a_gradient_reaches_rows_that_ask_for_one() -> None:
    """d/dx of x^2/2 - 1 for E = x^2/2 is x."""
    x = torch.tensor([[0.5], [-2.0]], requires_grad=True)
    exact_score_matching(lambda r: 0.5 * r[:, 0].square(), 2 * x / 2).sum().backward()
    torch.testing.assert_close(x.grad, x.detach())


@pytest.mark.parametrize("function", [exact_score_matching, sliced_score_matching])
def test_what_has_no_gradient_is_refused(function: Callable[[Any, Tensor], Tensor]) -> None:
    with pytest.raises(ContractError, match="no gradient in its rows"):
        function(lambda r: r.detach().sum(1), torch.zeros(3, 2))
    bias = torch.zeros((), requires_grad=True)
    with pytest.raises(ContractError, match="no gradient in its rows"):
        function(lambda r: r.detach().sum(1) + bias, torch.zeros(3, 2))
    with pytest.raises(ContractError, match=r"torch\.int64; convert them to floats"):
        function(lambda r: r.sum(1).float(), torch.zeros(3, 2, dtype=torch.int64))
    with pytest.raises(ContractError, match=r"twice, which torch\.compile does not; train without compile"):
        function(torch.compile(MLP(2)), torch.zeros(3, 2))


@pytest.mark.parametrize("projections", [0, 1.5, True])
def test_projections_are_checked(projections: int) -> None:
    with pytest.raises(ValueError, match="projections must be a whole number above 0"):
        sliced_score_matching(MLP(2), torch.zeros(3, 2), projections=projections)
