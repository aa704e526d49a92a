"""The terms of the Stein operator against closed forms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from chainfree.checks import ContractError
from chainfree.energies import MLP
from chainfree.functional import exact_score_matching, stein_terms


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _rows(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=_seeded(seed))


def test_the_terms_of_a_linear_critic() -> None:
    matrix, x = _rows(3, 3, seed=2), _rows(10, 3)
    energy = lambda r: 0.5 * r.square().sum(1)  # noqa: E731
    terms = [stein_terms(energy, lambda r: r @ matrix.T, x, probes=2, generator=_seeded(seed)) for seed in range(4000)]
    torch.testing.assert_close(terms[0].drift, -(x @ matrix.T * x).sum(1))
    torch.testing.assert_close(terms[0].squared_norm, (x @ matrix.T).square().sum(1))
    torch.testing.assert_close(terms[0].data_energy, energy(x))
    divergence = torch.stack([t.divergence for t in terms])
    error = float(divergence.std() / divergence.numel() ** 0.5)
    assert abs(float(divergence.mean() - matrix.trace())) < 4 * error


def test_the_best_critic_turns_it_into_score_matching() -> None:
    """f = -(grad log p + grad E) / 2 lambda on p = N(0, 1): the discrepancy is E|grad log p + grad E|^2 / 4 lambda, and its
    gradient in the energy that of score matching over 2 lambda."""
    x, penalty = _rows(200_000, 1), 0.7
    a = torch.tensor(1.6, dtype=torch.float64, requires_grad=True)
    energy = lambda r: 0.5 * a * r[:, 0].square()  # noqa: E731
    critic = lambda r: -(a.detach() * r - r) / (2 * penalty)  # noqa: E731
    terms = stein_terms(energy, critic, x, generator=_seeded(2))
    value = float((terms.drift + terms.divergence - penalty * terms.squared_norm).mean())
    assert value == pytest.approx((1.6 - 1) ** 2 / (4 * penalty), rel=0.02)
    (slope,) = torch.autograd.grad(terms.drift.mean(), a)
    (expected,) = torch.autograd.grad(exact_score_matching(energy, x).mean(), a)
    # on finitely many rows the two differ by sampling noise alone
    assert float(slope) == pytest.approx(float(expected) / (2 * penalty), rel=0.05)


def test_a_critic_of_another_shape_is_refused() -> None:
    with pytest.raises(ContractError, match="it is a vector field"):
        stein_terms(lambda r: r.sum(1), lambda r: r[:, :1], torch.zeros(3, 2))


def test_no_graph_is_left_without_gradients() -> None:
    energy, critic = MLP(2), torch.nn.Linear(2, 2)
    with torch.no_grad():
        terms = stein_terms(energy, critic, torch.zeros(3, 2), generator=_seeded())
    assert not any(term.requires_grad for term in terms)
