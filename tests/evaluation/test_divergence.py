"""Likelihood gaps against closed forms between Gaussians."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from chainfree.checks import ContractError
from chainfree.energies import Gaussian
from chainfree.evaluation import held_out_nll, log_density_mse, nll_gap


def _gaussian(mean: list[float], covariance: list[list[float]]) -> Gaussian:
    return Gaussian(torch.tensor(mean, dtype=torch.float64), torch.tensor(covariance, dtype=torch.float64))


TRUTH = _gaussian([0.5, -1.0], [[1.0, 0.4], [0.4, 0.8]])
MODEL = _gaussian([0.0, -0.5], [[1.5, 0.0], [0.0, 0.7]])


def _kl() -> float:
    p, q = np.array([[1.0, 0.4], [0.4, 0.8]]), np.diag([1.5, 0.7])
    shift = np.array([0.5, -0.5])
    inverse = np.linalg.inv(q)
    return 0.5 * (np.trace(inverse @ p) + shift @ inverse @ shift - 2 + np.log(np.linalg.det(q) / np.linalg.det(p)))


def test_the_gap_estimates_the_divergence(generator: torch.Generator) -> None:
    n = 100_000
    x = TRUTH.sample(n, generator=generator)  # more rows than are evaluated at a time
    spread = float((TRUTH.log_prob(x) - MODEL.log_prob(x)).std()) / math.sqrt(n)
    assert spread < 0.01
    assert abs(nll_gap(MODEL, MODEL.log_z, TRUTH, x) - _kl()) < 4 * spread
    assert nll_gap(TRUTH, TRUTH.log_z, TRUTH, x) == pytest.approx(0.0, abs=1e-12)
    # an error in log Z goes straight through
    assert nll_gap(TRUTH, TRUTH.log_z + 0.25, TRUTH, x) == pytest.approx(0.25, abs=1e-12)


def test_the_mean_squared_error_of_a_shifted_normal(generator: torch.Generator) -> None:
    """Between N(0, 1) and N(m, 1) the log-densities differ by m^2 / 2 - m x, whose mean square is m^4 / 4 + m^2."""
    m = 0.8
    truth, model = _gaussian([0.0], [[1.0]]), _gaussian([m], [[1.0]])
    x = truth.sample(100_000, generator=generator)
    assert log_density_mse(model, model.log_z, truth, x) == pytest.approx(m**4 / 4 + m**2, rel=0.02)
    assert log_density_mse(truth, truth.log_z, truth, x) == pytest.approx(0.0, abs=1e-20)
    assert log_density_mse(truth, truth.log_z - 0.5, truth, x) == pytest.approx(0.25, abs=1e-12)


def test_held_out_likelihood_is_scipy_s(generator: torch.Generator) -> None:
    x = TRUTH.sample(200, generator=generator)
    expected = -stats.multivariate_normal([0.0, -0.5], np.diag([1.5, 0.7])).logpdf(x.numpy()).mean()
    assert held_out_nll(MODEL, MODEL.log_z, x) == pytest.approx(expected, rel=1e-12)


def test_they_hold_the_energy_to_the_contract_and_keep_no_graph() -> None:
    x = torch.zeros(3, 2)
    with pytest.raises(ContractError, match="squeeze"):
        held_out_nll(nn.Linear(2, 1), 0.0, x)
    seen = []
    held_out_nll(lambda rows: seen.append(torch.is_grad_enabled()) or rows.sum(-1), 0.0, x)  # type: ignore[func-returns-value]
    assert seen == [False]
