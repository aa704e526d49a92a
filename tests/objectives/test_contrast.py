"""The energy's side of every game, against sums by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from chainfree.checks import ContractError
from chainfree.objectives.contrast import contrast


def _rows(n: int, seed: int) -> Tensor:
    return torch.randn(n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("weighted", [False, True])
def test_it_is_the_sum_of_its_terms(weighted: bool) -> None:
    x, fake = _rows(5, 0), _rows(7, 1)
    scale = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    log_density = _rows(7, 2)[:, 0] if weighted else None
    found = contrast(
        lambda v: 0.5 * scale * v.square().sum(1),
        x,
        fake,
        gradient_penalty=0.3,
        energy_square=0.2,
        log_density=log_density,
    )
    data, samples = 0.35 * x.square().sum(1), 0.35 * fake.square().sum(1)
    weights = torch.full((7,), 1 / 7, dtype=torch.float64)
    if log_density is not None:
        weights = torch.exp(-samples - log_density)
        weights = weights / weights.sum()
        assert found.weights is not None
        torch.testing.assert_close(found.weights.values, weights)
    else:
        assert found.weights is None
    expected = data.mean() - (weights * samples).sum() + 0.15 * (0.7 * x).square().sum(1).mean()
    expected = expected + 0.2 * (data.square().mean() + samples.square().mean())
    torch.testing.assert_close(found.loss.detach(), expected)
    torch.testing.assert_close(found.data.detach(), data)
    torch.testing.assert_close(found.samples.detach(), samples)
    # weights are constants: d/d scale by hand
    (gradient,) = torch.autograd.grad(found.loss, scale)
    slope = data.mean() - (weights * samples).sum() + 2 * 0.15 * (0.7 * x).square().sum(1).mean()
    slope = slope + 2 * 0.2 * (data.square().mean() + samples.square().mean())
    torch.testing.assert_close(gradient, slope / 0.7)


def test_every_row_is_evaluated_once_and_the_caller_s_are_left_alone() -> None:
    passes: list[int] = []
    x, fake = _rows(2, 0), _rows(4, 1)

    def energy(v: Tensor) -> Tensor:
        passes.append(len(v))
        return v.square().sum(1)

    contrast(energy, x, fake)
    assert passes == [6]
    contrast(energy, x, fake, gradient_penalty=1.0)
    assert sum(passes) == 12
    assert not x.requires_grad
    with pytest.raises(ContractError, match="squeeze the last axis"):
        contrast(lambda v: v[:, :1], x, fake)
