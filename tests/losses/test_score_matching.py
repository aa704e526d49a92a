"""The exact loss: that it is the mean of the function, and what it learns."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scipy import optimize

from chainfree.energies import MLP
from chainfree.functional import exact_score_matching
from chainfree.losses import ScoreMatching


def test_it_is_the_mean_of_the_function() -> None:
    energy, x = MLP(3, width=8, depth=2), torch.randn(9, 3)
    output = ScoreMatching()(energy, x)
    torch.testing.assert_close(output.loss, exact_score_matching(energy, x).mean(), rtol=0, atol=0)
    assert torch.equal(output.metrics["loss"], output.loss.detach())
    torch.testing.assert_close(output.metrics["energy_data"], energy(x).mean().detach())


def test_minimising_it_finds_mean_and_variance_of_the_rows(generator: torch.Generator) -> None:
    """For a normal energy the minimiser is the rows' own mean and variance, exactly."""
    x = 1.5 + 0.7 * torch.randn(500, 1, generator=generator, dtype=torch.float64)

    def value_and_gradient(parameters: Any) -> tuple[float, Any]:
        theta = torch.tensor(parameters, dtype=torch.float64, requires_grad=True)
        value = ScoreMatching()(lambda r: 0.5 * (r[:, 0] - theta[0]).square() * theta[1].exp(), x).loss
        (gradient,) = torch.autograd.grad(value, theta)
        return value.item(), gradient.numpy()

    found = optimize.minimize(value_and_gradient, [0.0, 0.0], jac=True, method="L-BFGS-B", tol=1e-14)
    assert found.x[0] == pytest.approx(x.mean().item(), abs=1e-5)
    assert math.exp(-found.x[1]) == pytest.approx(x.var(correction=0).item(), abs=1e-5)


def test_it_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        ScoreMatching().projections = 5  # type: ignore[attr-defined]
