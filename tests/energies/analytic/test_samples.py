"""Exact samplers: every draw is mapped to independent variables of a known law by scipy's conditional laws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import integrate, interpolate, stats

from chainfree.energies import Banana, DoubleWell, Funnel, Gaussian, GaussianMixture, Ring

N = 20_000
LOWEST = 1e-4  # of a p-value, for a few dozen looks; the seeds are fixed, so a test that passes goes on passing


def _independent_normals(z: NDArray[np.float64]) -> None:
    for k in range(z.shape[1]):
        assert stats.kstest(z[:, k], "norm").pvalue > LOWEST
        for j in range(k):
            # neither the values nor their sizes depend on each other
            assert stats.pearsonr(z[:, j], z[:, k]).pvalue > LOWEST
            assert stats.pearsonr(z[:, j] ** 2, z[:, k] ** 2).pvalue > LOWEST
            assert stats.pearsonr(z[:, j] ** 2, z[:, k]).pvalue > LOWEST


def test_gaussian(generator: torch.Generator) -> None:
    mean, covariance = [1.0, -2.0, 0.5], np.array([[2.0, 0.9, 0.0], [0.9, 1.0, -0.2], [0.0, -0.2, 0.3]])
    x = Gaussian(torch.tensor(mean).double(), torch.from_numpy(covariance)).sample(N, generator=generator).numpy()
    # conditional laws by regression on the earlier axes, not by a Cholesky factor
    z = np.empty_like(x)
    for k in range(3):
        slope = np.linalg.solve(covariance[:k, :k], covariance[:k, k])
        centre = mean[k] + (x[:, :k] - mean[:k]) @ slope
        z[:, k] = (x[:, k] - centre) / np.sqrt(covariance[k, k] - covariance[k, :k] @ slope)
    _independent_normals(z)


def test_mixture(generator: torch.Generator) -> None:
    means = np.array([[-2.0, 0.0], [2.0, 1.0], [0.0, 4.0]])
    covariances = np.stack([np.diag([0.5, 2.0]), np.array([[1.0, 0.8], [0.8, 1.0]]), np.diag([0.2, 0.2])])
    weights = np.array([0.5, 0.3, 0.2])
    mixture = GaussianMixture(torch.from_numpy(means), torch.from_numpy(covariances), weights=torch.from_numpy(weights))
    x = mixture.sample(N, generator=generator).numpy()
    for direction in np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, -1.0]]):
        laws = [
            stats.norm(m @ direction, np.sqrt(direction @ c @ direction))
            for m, c in zip(means, covariances, strict=True)
        ]

        def cdf(v: NDArray[np.float64], laws: list[stats.rv_frozen] = laws) -> NDArray[np.float64]:
            return sum(w * law.cdf(v) for w, law in zip(weights, laws, strict=True))

        assert stats.kstest(x @ direction, cdf).pvalue > LOWEST


def test_unnormalised_weights_are_shares(generator: torch.Generator) -> None:
    mixture = GaussianMixture(torch.tensor([[-100.0], [0.0], [100.0]]), weights=[1.0, 2.0, 5.0])
    x = mixture.sample(N, generator=generator)
    counts = [int((x < -50).sum()), int((x.abs() < 50).sum()), int((x > 50).sum())]
    assert stats.chisquare(counts, N * np.array([1, 2, 5]) / 8).pvalue > LOWEST


@pytest.mark.parametrize(("dim", "curvature"), [(2, 0.5), (4, -1.5)])
def test_banana(dim: int, curvature: float, generator: torch.Generator) -> None:
    x = Banana(dim, scale=2.0, curvature=curvature, width=0.3).double().sample(N, generator=generator).numpy()
    z = x.copy()
    z[:, 0] /= 2.0
    z[:, 1] = (x[:, 1] - curvature * (x[:, 0] ** 2 - 4.0)) / 0.3
    _independent_normals(z)
    assert x[:, 1].mean() == pytest.approx(0.0, abs=5 * x[:, 1].std() / np.sqrt(N))


@pytest.mark.parametrize("dim", [2, 5])
def test_funnel(dim: int, generator: torch.Generator) -> None:
    x = Funnel(dim).double().sample(N, generator=generator).numpy()
    z = x * np.exp(-x[:, :1] / 2)
    z[:, 0] = x[:, 0] / 3
    _independent_normals(z)


def test_ring(generator: torch.Generator) -> None:
    """The distance to the centre of a blurred circle has Rice's law."""
    radii, noise = (0.5, 2.0, 3.0), 0.3
    x = Ring(radii, noise=noise).double().sample(N, generator=generator).numpy()
    laws = [stats.rice(radius / noise, scale=noise) for radius in radii]
    distance = np.hypot(x[:, 0], x[:, 1])
    angle = np.arctan2(x[:, 1], x[:, 0])
    assert stats.kstest(distance, lambda v: np.mean([law.cdf(v) for law in laws], axis=0)).pvalue > LOWEST
    assert stats.kstest(angle, stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > LOWEST
    outer = distance > 1.2
    assert stats.ks_2samp(angle[outer], angle[~outer]).pvalue > LOWEST


@pytest.mark.parametrize(("dim", "barrier"), [(1, 4.0), (3, 0.3), (2, 20.0)])
def test_double_well(dim: int, barrier: float, generator: torch.Generator) -> None:
    x = DoubleWell(dim, barrier=barrier).double().sample(N, generator=generator).numpy()
    grid = np.linspace(-4, 4, 8001)
    mass = integrate.cumulative_simpson(np.exp(-barrier * (grid**2 - 1) ** 2), x=grid, initial=0)
    cdf = interpolate.interp1d(grid, mass / mass[-1])
    uniform = np.clip(cdf(x[:, 0]), 1e-12, 1 - 1e-12)
    _independent_normals(np.column_stack([stats.norm.ppf(uniform), x[:, 1:]]))


def test_a_rejection_sampler_has_no_memory_of_its_order(generator: torch.Generator) -> None:
    x = DoubleWell(1, barrier=1.0).sample(N, generator=generator).numpy()[:, 0]
    assert stats.pearsonr(x[1:], x[:-1]).pvalue > LOWEST
    assert stats.ks_2samp(x[: N // 2], x[N // 2 :]).pvalue > LOWEST
