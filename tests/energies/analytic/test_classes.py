"""Normal classes with one covariance, against torch's distributions and scikit-learn."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.mixture import GaussianMixture as SklearnMixture
from torch import Tensor
from torch.distributions import MultivariateNormal

from chainfree.energies import GaussianClasses

MEANS = torch.tensor([[0.0, 0.0], [4.0, 1.0], [-1.0, 5.0]], dtype=torch.float64)
COVARIANCE = torch.tensor([[1.0, 0.3], [0.3, 0.5]], dtype=torch.float64)
WEIGHTS = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)


@pytest.fixture
def classes() -> GaussianClasses:
    return GaussianClasses(MEANS, COVARIANCE, WEIGHTS)


def _labelled_rows(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    y = torch.multinomial(WEIGHTS, n, replacement=True, generator=generator)
    noise = torch.randn(n, 2, generator=generator, dtype=torch.float64) @ torch.linalg.cholesky(COVARIANCE).T
    return MEANS[y] + noise, y


def test_log_joint_is_the_prior_times_the_normals(classes: GaussianClasses) -> None:
    x, _ = _labelled_rows(50)
    expected = torch.stack(
        [MultivariateNormal(mean, COVARIANCE).log_prob(x) + w.log() for mean, w in zip(MEANS, WEIGHTS, strict=True)], 1
    )
    torch.testing.assert_close(classes.log_joint(x), expected)
    torch.testing.assert_close(classes.log_prob(x), expected.logsumexp(1))
    shifted = GaussianClasses((MEANS + 1000).float(), COVARIANCE.float(), WEIGHTS.float())
    torch.testing.assert_close(shifted.log_joint((x + 1000).float()).double(), expected, rtol=1e-3, atol=2e-3)


def test_draws_have_the_mixtures_moments(classes: GaussianClasses) -> None:
    x = classes.sample(200_000, generator=torch.Generator().manual_seed(0))
    mean = WEIGHTS @ MEANS
    covariance = COVARIANCE + (MEANS - mean).T @ (WEIGHTS.unsqueeze(1) * (MEANS - mean))
    torch.testing.assert_close(x.mean(0), mean, rtol=0, atol=0.03)
    torch.testing.assert_close(torch.cov(x.T), covariance, rtol=0.02, atol=0.03)


def test_without_steps_it_is_the_linear_discriminant() -> None:
    x, y = _labelled_rows(60)
    hidden = y.clone()
    hidden[30:] = -1
    oracle = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(x[:30].numpy(), y[:30].numpy())
    fitted = GaussianClasses.fit(x, hidden)
    expected = torch.from_numpy(oracle.predict_log_proba(x.numpy()))
    torch.testing.assert_close(torch.log_softmax(fitted.log_joint(x), 1), expected)


@pytest.mark.filterwarnings("ignore:Best performing initialization did not converge")
def test_steps_without_labels_but_a_few_are_those_of_a_tied_mixture() -> None:
    """Scikit-learn's, from the same start; the six labelled rows of 3,000 differ in the fourth digit."""
    x, y = _labelled_rows(3000)
    hidden = torch.full_like(y, -1)
    for k in range(3):
        hidden[torch.nonzero(y == k)[:2, 0]] = k
    start = GaussianClasses.fit(x, hidden)
    found = GaussianClasses.fit(x, hidden, em_steps=5, shrinkage=0.0)
    precision = torch.cholesky_inverse(start.factor)
    oracle = SklearnMixture(
        3,
        covariance_type="tied",
        weights_init=start.log_weights.exp().numpy(),
        means_init=start.means.numpy(),
        precisions_init=precision.numpy(),
        reg_covar=0.0,
        max_iter=5,
        tol=0.0,
    )
    oracle.fit(x.numpy())
    torch.testing.assert_close(found.means, torch.from_numpy(oracle.means_), rtol=0, atol=0.02)
    torch.testing.assert_close(found.log_weights.exp(), torch.from_numpy(oracle.weights_), rtol=0, atol=5e-3)
    torch.testing.assert_close(found.factor @ found.factor.T, torch.from_numpy(oracle.covariances_), rtol=0, atol=0.02)


def test_a_step_never_lowers_the_likelihood_of_all_rows() -> None:
    x, y = _labelled_rows(400, seed=3)
    hidden = torch.where(torch.arange(400) < 30, y, -1)

    def likelihood(fit: GaussianClasses) -> float:
        joint = fit.log_joint(x)
        return float(joint[:30].gather(1, y[:30].unsqueeze(1)).sum() + joint[30:].logsumexp(1).sum())

    values = [likelihood(GaussianClasses.fit(x, hidden, em_steps=steps, shrinkage=0.0)) for steps in (1, 2, 3, 6, 12)]
    assert all(b >= a - 1e-9 for a, b in pairwise(values))
    assert math.isfinite(values[-1])


def test_what_cannot_be_fitted_is_refused(classes: GaussianClasses) -> None:
    x = torch.zeros(4, 2)
    for y in (torch.tensor([0, 2, -1, -1]), torch.tensor([0, 0, -1, -1]), torch.tensor([0, 1, -2, 0])):
        with pytest.raises(ValueError, match="labels must be classes 0, 1, "):
            GaussianClasses.fit(x, y)
    with pytest.raises(ValueError, match="no row has a label"):
        GaussianClasses.fit(x, torch.full((4,), -1))
    with pytest.raises(ValueError, match="y must be whole numbers"):
        GaussianClasses.fit(x, torch.zeros(4))
    with pytest.raises(ValueError, match="em_steps"):
        GaussianClasses.fit(x, torch.tensor([0, 1, 0, 1]), em_steps=-1)
    with pytest.raises(ValueError, match="more labelled rows than classes; label one more"):
        GaussianClasses.fit(x, torch.tensor([0, 1, -1, -1]))
    with pytest.raises(ValueError, match=r"rows \(N, dim\), got shape \(4,\)"):
        GaussianClasses.fit(x[:, 0], torch.tensor([0, 1, 0, 1]))
    hole = x.clone()
    hole[3] = torch.nan  # of a row without a label
    with pytest.raises(ValueError, match="x "):
        GaussianClasses.fit(hole, torch.tensor([0, 1, 0, -1]))
    with pytest.raises(ValueError, match="positive definite"):
        GaussianClasses(MEANS, -COVARIANCE, WEIGHTS)
