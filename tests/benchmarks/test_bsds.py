"""The density estimation benchmark's own densities and rows, against torch's distributions and by hand."""

from __future__ import annotations

import math

import pytest
import torch
from benchmarks.bsds.data import Whitening
from benchmarks.bsds.methods import KernelDensity
from benchmarks.bsds.networks import BaseOfPrepared, Correction, Experts, OfPrepared, PreparedNoise, prepared
from benchmarks.bsds.scale_mixture import EMSettings, ScaleMixture, fit_scale_mixture
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

SHAPES = torch.stack([torch.diag(torch.tensor([1.0, 4.0, 0.1])), torch.eye(3) + 0.5])
MEANS = torch.tensor([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.5]])
WEIGHTS = torch.tensor([[0.3, 0.2], [0.4, 0.1]])
SIZES = torch.tensor([[0.2, 2.0], [1.0, 5.0]])


@pytest.fixture
def mixture() -> ScaleMixture:
    return ScaleMixture(MEANS, SHAPES, WEIGHTS, SIZES)


@pytest.fixture
def oracle() -> MixtureSameFamily:
    covariances = (SIZES.square()[:, :, None, None] * SHAPES.unsqueeze(1)).flatten(0, 1)
    normals = MultivariateNormal(MEANS.repeat_interleave(2, 0), covariances)
    return MixtureSameFamily(Categorical(WEIGHTS.flatten()), normals)


def draws(mixture: ScaleMixture, n: int, seed: int = 0) -> torch.Tensor:
    return mixture.sample(n, generator=torch.Generator().manual_seed(seed))


def test_log_prob_is_that_of_the_mixture_of_all_shapes_and_sizes(
    mixture: ScaleMixture, oracle: MixtureSameFamily
) -> None:
    x = draws(mixture, 5000)  # more than are taken at a time
    torch.testing.assert_close(mixture.log_prob(x), oracle.log_prob(x), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(mixture.read(x).log_prob, mixture.log_prob(x))


def test_draws_have_the_mixtures_mean_and_variance(mixture: ScaleMixture, oracle: MixtureSameFamily) -> None:
    x = draws(mixture, 200_000)
    error = oracle.variance.sqrt() / math.sqrt(len(x))
    assert bool(((x.mean(0) - oracle.mean).abs() < 5 * error).all())
    torch.testing.assert_close(x.var(0), oracle.variance, rtol=0.05, atol=0.0)


def test_residuals_of_well_separated_shapes_are_normal_noise() -> None:
    apart = ScaleMixture(100 * MEANS, SHAPES, torch.tensor([[0.5], [0.5]]), torch.ones(2, 1))
    found = apart.read(draws(apart, 100_000))
    torch.testing.assert_close(torch.cov(found.residual.T), torch.eye(3), rtol=0.0, atol=0.03)
    torch.testing.assert_close(found.shares.mean(0), torch.tensor([0.5, 0.5]), rtol=0.0, atol=0.01)


@pytest.mark.parametrize("sizes", [2, 3])
def test_expectation_maximisation_finds_the_mixture(sizes: int, mixture: ScaleMixture) -> None:
    fitted = fit_scale_mixture(draws(mixture, 20_000), EMSettings(shapes=2, sizes=sizes, steps=100, batch=4000))
    x = draws(mixture, 5000, seed=1)
    assert abs(float(fitted.log_prob(x).mean() - mixture.log_prob(x).mean())) < 0.02


def test_one_shape_of_one_size_is_the_normal_of_the_rows() -> None:
    x = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0)) @ torch.tensor(
        [[1.0, 0.5, 0.0], [0.0, 2.0, 0.3], [0.0, 0.0, 0.2]]
    )
    fitted = fit_scale_mixture(x, EMSettings(shapes=1, steps=5, batch=4000, shrinkage=0.0))
    normal = MultivariateNormal(x.mean(0), torch.cov(x.T, correction=0))
    torch.testing.assert_close(fitted.log_prob(x), normal.log_prob(x), rtol=1e-3, atol=1e-3)


def test_whitening_has_unit_covariance_and_the_right_determinant() -> None:
    x = torch.randn(500, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.1, 1.0, 3.0, 5.0]) + 2
    whitening = Whitening.fit(x)
    u = whitening(x)
    torch.testing.assert_close(torch.cov(u.T), torch.eye(4), rtol=0.0, atol=1e-4)
    expected = -0.5 * float(torch.linalg.slogdet(torch.cov(x.double().T)).logabsdet)
    assert float(whitening.log_abs_det(x)[0]) == pytest.approx(expected)


def test_kernel_density_integrates_to_one() -> None:
    density = KernelDensity(torch.randn(50, 1, generator=torch.Generator().manual_seed(0)), 0.3)
    grid = torch.linspace(-8, 8, 4001).unsqueeze(1)
    assert float(torch.trapezoid(density.log_prob(grid).exp(), grid.squeeze(1))) == pytest.approx(1, abs=1e-3)


def test_experts_start_at_zero_where_asked_and_stay_within_their_bound(mixture: ScaleMixture) -> None:
    torch.manual_seed(0)
    experts = Experts(3, 2, experts=8, width=8, depth=2, bound=2.0)
    torch.nn.init.normal_(experts.last.weight, std=100)
    x = draws(mixture, 500)
    values = Correction(mixture, experts)(x)
    assert float(values.detach().abs().max()) <= 2.0
    assert float(values.detach().std()) > 0.1
    torch.testing.assert_close(OfPrepared(experts)(prepared(mixture, mixture, mixture, x)), values)


def test_prepared_rows_know_their_base_and_their_noise_apart(mixture: ScaleMixture) -> None:
    base = ScaleMixture(MEANS, SHAPES, torch.tensor([[0.5], [0.5]]), torch.ones(2, 1))
    noise = PreparedNoise(base, mixture, mixture, pool=0)
    rows = noise.sample(300, generator=torch.Generator().manual_seed(0))
    x = draws(mixture, 300 * (4096 // 300))
    expected = {name: density.log_prob(x) for name, density in (("base", base), ("noise", mixture))}
    torch.testing.assert_close(BaseOfPrepared().log_prob(rows), expected["base"][-300:])
    torch.testing.assert_close(noise.log_prob(rows), expected["noise"][-300:])
