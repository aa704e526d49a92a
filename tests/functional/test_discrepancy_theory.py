"""Energy discrepancy against its theory.

The library's estimator is made exact by a perturbation that returns quadrature nodes instead of draws. A node's weight
rides in the last feature: the energy adds that feature, data carry 0 in it and node j carries -log(M w_j), so that the
estimator's plain mean over the M nodes is the weighted sum. Expected values come from scipy, autodiff or algebra.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate, optimize, stats
from torch import Tensor

from chainfree.energies import Gaussian as GaussianEnergy
from chainfree.energies import GaussianMixture
from chainfree.functional import energy_discrepancy
from chainfree.perturbations import Gaussian, Perturbed

Scalar = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class NodePerturbation:
    """Rows (position, carried weight); noise is given, not drawn."""

    t: float
    forward: Tensor  # (B, d), the noise of each row
    backward: Tensor  # (M, d)
    log_weights: Tensor  # (M,), of a rule whose weights sum to one

    def perturb(self, x: Tensor, /, *, generator: torch.Generator | None = None) -> Perturbed:
        return Perturbed(x[:, :-1] + math.sqrt(self.t) * self.forward)

    def recover(self, perturbed: Perturbed, draws: int, /, *, generator: torch.Generator | None = None) -> Tensor:
        assert draws == len(self.backward)
        place = perturbed.y + math.sqrt(self.t) * self.backward.unsqueeze(1)
        carried = -(self.log_weights + math.log(draws)).view(-1, 1, 1).expand(draws, len(perturbed.y), 1)
        return torch.cat([place, carried], dim=-1)


def carrying(energy: Scalar) -> Scalar:
    return lambda x: energy(x[:, :-1]) + x[:, -1]


def hermite(n: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights for a standard normal."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(n)
    return torch.from_numpy(nodes), torch.from_numpy(weights / weights.sum())


def exact_ed(energy: Scalar, data: tuple[Tensor, Tensor], t: float, *, nodes: int = 80) -> float:
    """The library's ED of a 1-d energy, exact for data given as nodes and weights."""
    x, x_weights = data
    xi, weights = hermite(nodes)
    xi_outer, outer = hermite(40)
    perturbation = NodePerturbation(t, xi_outer.repeat(len(x)).unsqueeze(1), xi.unsqueeze(1), weights.log())
    rows = torch.stack([x.repeat_interleave(len(xi_outer)), torch.zeros(len(x) * len(xi_outer))], dim=1)
    values = energy_discrepancy(carrying(energy), rows, perturbation=perturbation, draws=nodes, w=0.0).values
    return float(values @ torch.outer(x_weights, outer).flatten())


def gaussian_data(s: float) -> tuple[Tensor, Tensor]:
    nodes, weights = hermite(40)
    return s * nodes, weights


def quadratic(v: float) -> Scalar:
    return lambda x: x.square().sum(-1) / (2 * v)


def gaussian_ed(s: float, v: float, t: float) -> float:
    """ED of N(0, s^2) and E = x^2 / 2v: the contrastive potential is y^2 / 2(v + t) + log(1 + t/v) / 2."""
    return s**2 / (2 * v) - (s**2 + t) / (2 * (v + t)) - 0.5 * math.log1p(t / v)


@pytest.mark.parametrize("t", [0.05, 0.5, 2.0, 6.0])
@pytest.mark.parametrize(("s", "v"), [(1.0, 1.0), (1.5, 1.4), (0.6, 2.0)])
def test_gaussian_data_and_energy_give_the_closed_form(s: float, v: float, t: float) -> None:
    nodes = 200 if t > 3 * v else 80  # the integrand narrows against the nodes as t / v grows
    assert exact_ed(quadratic(v), gaussian_data(s), t, nodes=nodes) == pytest.approx(gaussian_ed(s, v, t), abs=1e-7)


@pytest.mark.parametrize("t", [0.25, 1.0])
def test_random_draws_give_the_closed_form_within_their_error(t: float, generator: torch.Generator) -> None:
    s, v = 1.3, 0.9
    draws, rows = 512, 4096
    x = s * torch.randn(rows, 1, generator=generator, dtype=torch.float64)
    values = energy_discrepancy(
        quadratic(v), x, perturbation=Gaussian(t=t), draws=draws, w=0.0, generator=generator
    ).values
    error = float(values.std()) / math.sqrt(rows)
    assert error < 0.02
    # the logarithm of a mean of M terms is too low by about variance / 2M, far below the tolerance at M = 512
    assert abs(float(values.mean()) - gaussian_ed(s, v, t)) < 3.5 * error


def test_ed_is_the_integral_of_score_matching_over_noise_levels() -> None:
    s, v, t = 1.2, 0.8, 1.7

    def score_matching(r: float) -> float:  # of N(0, s^2 + r) and the smoothed energy y^2 / 2(v + r)
        return (s**2 + r) / (2 * (v + r) ** 2) - 1 / (v + r)

    expected, _ = integrate.quad(score_matching, 0, t)
    assert exact_ed(quadratic(v), gaussian_data(s), t) == pytest.approx(expected, abs=1e-8)


def test_small_t_on_the_standard_normal_tends_to_minus_one_half() -> None:
    for t in (1e-2, 1e-3, 1e-4):
        assert exact_ed(quadratic(1.0), gaussian_data(1.0), t) / t == pytest.approx(-0.5, abs=t)


def _bent(x: Tensor) -> Tensor:
    """A 2-d energy with all kinds of derivatives."""
    a, b = x[..., 0], x[..., 1]
    return 0.7 * a**2 + 0.4 * b**2 + 0.5 * a * b + torch.sin(2 * a) + 0.3 * torch.cos(a - 3 * b) + 0.1 * (a * b) ** 2


def test_small_t_tends_to_score_matching_by_autodiff(generator: torch.Generator) -> None:
    x = torch.randn(300, 2, generator=generator, dtype=torch.float64) + torch.tensor([0.5, -0.2])
    gradient = torch.func.vmap(torch.func.grad(_bent))(x)
    hessian = torch.func.vmap(torch.func.hessian(_bent))(x)
    laplacian = hessian.diagonal(dim1=1, dim2=2).sum(-1)
    score_matching = float((0.5 * gradient.square().sum(-1) - laplacian).mean())

    # signs have the mean and covariance of a standard normal, all that the limit depends on: no Monte Carlo error is left
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 2)
    rows = torch.cat([x.repeat_interleave(4, 0), torch.zeros(1200, 1)], dim=1)
    gaps = []
    for t in (1e-3, 1e-4, 1e-5):
        perturbation = NodePerturbation(t, signs.repeat(300, 1), signs, torch.full((4,), -math.log(4.0)))
        values = energy_discrepancy(carrying(_bent), rows, perturbation=perturbation, draws=4, w=0.0).values
        gaps.append(float(values.mean()) / t - score_matching)
    assert abs(score_matching) > 0.3
    assert abs(gaps[2]) < 1e-2 * abs(score_matching)
    # and the gap is of first order in t
    assert gaps[0] / gaps[1] == pytest.approx(10, rel=0.1)
    assert gaps[1] / gaps[2] == pytest.approx(10, rel=0.1)


def _kl(variance: float, other: float) -> float:
    return 0.5 * (variance / other - 1 - math.log(variance / other))


@pytest.mark.parametrize("t", [1.0, 4.0, 16.0])
@pytest.mark.parametrize("v", [1.6, 3.0])
def test_large_t_tends_to_the_likelihood_within_the_wasserstein_bound(v: float, t: float) -> None:
    s = 1.0
    energy = GaussianEnergy(torch.zeros(1, dtype=torch.float64), torch.tensor([[v]], dtype=torch.float64))
    ed = exact_ed(energy, gaussian_data(s), t, nodes=300)
    x, weights = gaussian_data(s)
    nll = float(energy(x.unsqueeze(1)) @ weights) + energy.log_z
    smoothed_entropy = float(stats.norm(scale=math.sqrt(s**2 + t)).entropy())  # the constant, free of the energy
    gap = nll - smoothed_entropy - ed
    wasserstein = (s - math.sqrt(v)) ** 2
    assert 0 <= gap <= wasserstein / (2 * t)
    # the gap is KL(Qp || Qp_E), and so ED = KL(p || p_E) - KL(Qp || Qp_E) + const
    assert gap == pytest.approx(_kl(s**2 + t, v + t), rel=1e-4)
    assert ed == pytest.approx(_kl(s**2, v) - gap + stats.norm(scale=s).entropy() - smoothed_entropy, abs=1e-6)


def test_differences_between_energies_tend_to_those_of_the_likelihood(generator: torch.Generator) -> None:
    """With random draws: the same rows and noise for both energies."""
    t, rows, draws = 16.0, 4096, 1024
    x = torch.randn(rows, 1, generator=generator, dtype=torch.float64)

    def per_row(v: float) -> tuple[Tensor, Tensor]:
        energy = GaussianEnergy(torch.zeros(1, dtype=torch.float64), torch.tensor([[v]], dtype=torch.float64))
        again = torch.Generator().manual_seed(7)
        ed = energy_discrepancy(energy, x, perturbation=Gaussian(t=t), draws=draws, w=0.0, generator=again).values
        return ed, -energy.log_prob(x)

    (ed_wide, nll_wide), (ed_true, nll_true) = per_row(2.5), per_row(1.0)
    gap = (nll_wide - nll_true) - (ed_wide - ed_true)
    error = float(gap.std()) / math.sqrt(rows)
    assert error < 0.005
    wasserstein = (1 - math.sqrt(2.5)) ** 2
    assert -4 * error < float(gap.mean()) < wasserstein / (2 * t) + 4 * error
    # without the subtraction the likelihoods differ by far more than the bound
    assert float((nll_wide - nll_true).mean()) > 10 * wasserstein / (2 * t)


def test_adding_a_constant_to_the_energy_changes_nothing() -> None:
    shifted = exact_ed(lambda x: quadratic(0.8)(x) + 12.5, gaussian_data(1.0), 1.0)
    assert shifted == pytest.approx(gaussian_ed(1.0, 0.8, 1.0), abs=1e-8)


# the stabilisation ---------------------------------------------------------------------------------------------------


def _mixture(weight: float) -> GaussianMixture:
    means = torch.tensor([[-2.0], [2.0]], dtype=torch.float64)
    return GaussianMixture(means, 0.5, weights=torch.tensor([weight, 1 - weight], dtype=torch.float64))


@pytest.mark.parametrize("draws", [1, 4, 16])
def test_at_w_one_the_true_mixture_weight_is_the_minimum_for_every_number_of_draws(draws: int) -> None:
    x = _mixture(0.2).sample(20_000, generator=torch.Generator().manual_seed(draws))

    def values(weight: float) -> Tensor:
        generator = torch.Generator().manual_seed(1000)  # common random numbers
        return energy_discrepancy(
            _mixture(weight), x, perturbation=Gaussian(t=4.0), draws=draws, generator=generator
        ).values

    step = 0.02
    slope = (values(0.2 + step) - values(0.2 - step)) / (2 * step)
    error = float(slope.std()) / math.sqrt(len(x))
    curvature = float((values(0.2 + step) + values(0.2 - step) - 2 * values(0.2)).mean()) / step**2
    assert curvature > 0
    assert error / curvature < 0.01  # in units of the weight: the test can see a wrong minimum
    assert abs(float(slope.mean())) < 4 * error

    grid = np.arange(0.05, 0.96, 0.05)
    losses = [float(values(weight).mean()) for weight in grid]
    assert grid[int(np.argmin(losses))] == pytest.approx(0.2)


@pytest.mark.parametrize(("w", "low", "high"), [(0.1, 1.3, 20.0), (1.0, 0.96, 1.04), (4.0, 0.0, 0.7)])
def test_w_below_one_is_too_steep_and_above_one_too_flat(
    w: float, low: float, high: float, generator: torch.Generator
) -> None:
    x = torch.randn(40_000, 1, generator=generator, dtype=torch.float64)

    def loss(inverse_temperature: float) -> float:
        again = torch.Generator().manual_seed(3)
        energy = quadratic(1 / inverse_temperature)
        values = energy_discrepancy(energy, x, perturbation=Gaussian(), draws=1, w=w, generator=again).values
        return float(values.mean())

    best: Any = optimize.minimize_scalar(loss, bounds=(0.01, 20.0), method="bounded")
    assert low < best.x < high


def test_small_t_is_nearsighted_and_large_t_sees_mode_weights() -> None:
    """The paper's first experiment: between far modes ED is flat at small t and has its minimum at the truth at large t."""

    def mixture(weight: float) -> GaussianMixture:
        means = torch.tensor([[-5.0], [5.0]], dtype=torch.float64)
        return GaussianMixture(means, 1.0, weights=torch.tensor([weight, 1 - weight], dtype=torch.float64))

    nodes, weights = hermite(40)
    data = (torch.cat([nodes - 5, nodes + 5]), torch.cat([0.2 * weights, 0.8 * weights]))
    rise = {}
    for t in (0.25, 2.0, 8.0):
        at = {weight: exact_ed(mixture(weight), data, t, nodes=200) for weight in (0.2, 0.5, 0.8)}
        assert at[0.2] < at[0.5] < at[0.8]
        rise[t] = at[0.8] - at[0.2]
    likelihood = 0.6 * math.log(4)  # KL(0.2, 0.8 || 0.8, 0.2)
    assert rise[0.25] < 1e-4 < rise[2.0] < rise[8.0] < likelihood
