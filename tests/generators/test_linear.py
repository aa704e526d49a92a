"""The linear generator against scipy's normal and scikit-learn's PCA."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.decomposition import PCA
from torch import Tensor

from chainfree.generators import LinearGenerator

SHAPES = [(2, 2), (5, 2), (2, 4), (3, 1), (30, 7)]


def _net(dim: int, latent: int, sigma: float = 0.1) -> LinearGenerator:
    generator = torch.Generator().manual_seed(dim * 10 + latent)
    weight = torch.randn(dim, latent, dtype=torch.float64, generator=generator)
    return LinearGenerator(weight, torch.randn(dim, dtype=torch.float64, generator=generator), sigma=sigma)


def _normal(net: LinearGenerator) -> stats._multivariate.multivariate_normal_frozen:
    weight, sigma = net.weight.detach().numpy(), math.exp(float(net.log_sigma.detach()))
    return stats.multivariate_normal(net.bias.detach().numpy(), weight @ weight.T + sigma**2 * np.eye(net.dim))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("sigma", [0.02, 0.3])
def test_density_and_entropy_are_the_normal_s(shape: tuple[int, int], sigma: float) -> None:
    net = _net(*shape, sigma=sigma)
    normal = _normal(net)
    x = torch.cat([net.sample(20).x.detach(), 3 * torch.randn(5, net.dim, dtype=torch.float64)])
    with torch.no_grad():
        values, entropy = net.log_prob(x), net.entropy()
    torch.testing.assert_close(values, torch.from_numpy(normal.logpdf(x.numpy())), rtol=1e-8, atol=1e-8)
    assert float(entropy) == pytest.approx(normal.entropy(), rel=1e-10)


def test_the_scale_is_the_weight_s_dtype_to_its_last_digit() -> None:
    net = LinearGenerator(torch.eye(2, dtype=torch.float64), sigma=0.123)
    assert net.log_sigma.dtype == torch.float64
    assert float(net.sigma.detach()) == pytest.approx(0.123, rel=1e-15)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradients_of_the_entropy(shape: tuple[int, int]) -> None:
    r""":math:`(WW^\top + \sigma^2 I)^{-1} W` and :math:`\sigma^2\,\mathrm{tr}` of the inverse."""
    net = _net(*shape)
    weight, variance = net.weight.detach(), float(net.sigma.detach()) ** 2
    inverse = torch.linalg.inv(weight @ weight.T + variance * torch.eye(net.dim, dtype=torch.float64))
    mine = torch.autograd.grad(net.entropy(), (net.weight, net.log_sigma))
    torch.testing.assert_close(mine[0], inverse @ weight, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(mine[1], variance * inverse.trace(), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_posterior_mean_is_the_regression_of_z_on_x(shape: tuple[int, int]) -> None:
    net = _net(*shape)
    weight = net.weight.detach()
    covariance = torch.from_numpy(_normal(net).cov)
    x = net.sample(6).x.detach()
    expected = (x - net.bias.detach()) @ torch.linalg.solve(covariance, weight)
    torch.testing.assert_close(net.posterior_mean(x).detach(), expected, rtol=1e-7, atol=1e-8)


def test_samples_follow_the_density() -> None:
    net = _net(3, 2, sigma=0.3)
    x = net.sample(20_000, generator=torch.Generator().manual_seed(0)).x.detach().numpy()
    normal = _normal(net)
    white = np.linalg.solve(np.linalg.cholesky(normal.cov), (x - normal.mean).T)
    for row in white:
        assert stats.kstest(row, "norm").pvalue > 1e-4
    assert np.abs(np.corrcoef(white) - np.eye(3)).max() < 5 / math.sqrt(len(x))


# -- principal components ----------------------------------------------------------------------------------------------


@pytest.fixture
def rows() -> Tensor:
    generator = torch.Generator().manual_seed(4)
    mix = torch.randn(6, 6, dtype=torch.float64, generator=generator)
    return 2.0 + torch.randn(300, 6, dtype=torch.float64, generator=generator) @ mix


@pytest.mark.parametrize("components", [1, 3, 5])
def test_pca_is_scikit_learn_s(rows: Tensor, components: int) -> None:
    net = LinearGenerator.pca(rows, components)
    theirs = PCA(n_components=components).fit(rows.numpy())
    # theirs divides by N - 1
    shrink = (len(rows) - 1) / len(rows)
    assert float(net.sigma.detach()) ** 2 == pytest.approx(shrink * theirs.noise_variance_, rel=1e-10)
    ours = torch.from_numpy(_normal(net).cov)
    torch.testing.assert_close(ours, torch.from_numpy(shrink * theirs.get_covariance()), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(net.bias.detach(), torch.from_numpy(theirs.mean_), rtol=1e-12, atol=1e-12)
    before = net.log_sigma.detach().clone()
    net.constrain()
    assert torch.equal(net.log_sigma, before)  # its bounds let the scale be


def test_pca_is_a_maximum_of_the_likelihood(rows: Tensor) -> None:
    net = LinearGenerator.pca(rows, 3)
    best = net.log_prob(rows).mean()
    for gradient in torch.autograd.grad(best, tuple(net.parameters())):
        assert gradient.abs().max() < 1e-9
    for parameter in net.parameters():
        for sign in (-1, 1):
            step = 0.02 * sign * torch.randn(parameter.shape, dtype=torch.float64)
            with torch.no_grad():
                parameter.add_(step)
                assert net.log_prob(rows).mean() < best
                parameter.sub_(step)


def test_pca_with_a_given_scale_is_the_best_for_that_scale(rows: Tensor) -> None:
    net = LinearGenerator.pca(rows, 2, sigma=0.8)
    assert float(net.sigma.detach()) == pytest.approx(0.8)
    gradients = torch.autograd.grad(net.log_prob(rows).mean(), (net.weight, net.bias))
    assert max(float(gradient.abs().max()) for gradient in gradients) < 1e-9
