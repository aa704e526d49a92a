"""Densities fitted by scikit-learn, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.covariance import LedoitWolf, ShrunkCovariance
from sklearn.mixture import GaussianMixture as SkMixture

from chainfree.energies import Gaussian, GaussianMixture

RNG = np.random.default_rng(0)
X = np.concatenate([RNG.normal(0, 1, (150, 3)) @ RNG.normal(0, 1, (3, 3)), RNG.normal(4, 0.5, (100, 3))])


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_mixture_equals_its_source(kind: str, dtype: torch.dtype) -> None:
    fitted = SkMixture(3, covariance_type=kind, random_state=0).fit(X)
    mixture = GaussianMixture.from_sklearn(fitted, dtype=dtype)
    x = torch.from_numpy(X).to(dtype)
    log_prob = mixture.log_prob(x)
    assert log_prob.dtype == dtype
    tolerance = 1e-9 if dtype == torch.float64 else 1e-3
    np.testing.assert_allclose(log_prob, fitted.score_samples(X), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_draws_have_the_source_s_moments(kind: str, generator: torch.Generator) -> None:
    fitted = SkMixture(2, covariance_type=kind, random_state=0).fit(X)
    draws = GaussianMixture.from_sklearn(fitted, dtype=torch.float64).sample(60_000, generator=generator).numpy()
    theirs, _ = fitted.sample(60_000)
    np.testing.assert_allclose(draws.mean(0), theirs.mean(0), atol=0.1)
    np.testing.assert_allclose(np.cov(draws.T), np.cov(theirs.T), atol=0.2)


def test_a_source_with_as_many_components_as_features_is_read_right() -> None:
    """Shapes (3,), (3, 3) and (3, 3, 3) are easily taken for one another."""
    for kind in ("full", "tied", "diag", "spherical"):
        fitted = SkMixture(3, covariance_type=kind, random_state=1).fit(X)
        mixture = GaussianMixture.from_sklearn(fitted, dtype=torch.float64)
        np.testing.assert_allclose(mixture.log_prob(torch.from_numpy(X)), fitted.score_samples(X), rtol=1e-9)


def test_a_gaussian_fit_is_ledoit_wolf_s() -> None:
    rows = X[:12]  # few rows, so that the shrinkage matters
    theirs = LedoitWolf().fit(rows)
    assert theirs.shrinkage_ > 0.02
    gaussian = Gaussian.fit(torch.from_numpy(rows))
    np.testing.assert_allclose(gaussian.mean, theirs.location_, rtol=1e-12)
    np.testing.assert_allclose(gaussian.factor @ gaussian.factor.T, theirs.covariance_, rtol=1e-9)
    np.testing.assert_allclose(gaussian.log_prob(torch.from_numpy(X)).mean(), theirs.score(X), rtol=1e-9)


@pytest.mark.parametrize("shrinkage", [0.0, 0.3, 1.0])
def test_a_gaussian_fit_with_a_given_shrinkage(shrinkage: float) -> None:
    gaussian = Gaussian.fit(torch.from_numpy(X), shrinkage=shrinkage)
    theirs = ShrunkCovariance(shrinkage=shrinkage).fit(X)
    np.testing.assert_allclose(gaussian.factor @ gaussian.factor.T, theirs.covariance_, rtol=1e-9, atol=1e-12)


def test_a_fit_to_rows_with_a_graph_and_in_float32() -> None:
    rows = torch.from_numpy(X).float().requires_grad_()
    gaussian = Gaussian.fit(rows)
    assert gaussian.mean.dtype == torch.float32
    assert not gaussian.mean.requires_grad
