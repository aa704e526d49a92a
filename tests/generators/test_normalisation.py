"""Batch normalisation against torch's, and what torch's cannot: applying another batch's statistics."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chainfree.checks import ContractError
from chainfree.generators import BatchNorm
from chainfree.generators.normalisation import applying, collecting

SHAPES = [(12, 3), (5, 3, 7), (4, 3, 6, 5)]
THEIRS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}


def _pair(axes: int) -> tuple[BatchNorm, nn.Module]:
    ours, theirs = BatchNorm(3).double(), THEIRS[axes](3).double()
    with torch.no_grad():
        for mine, other in [(ours.weight, theirs.weight), (ours.bias, theirs.bias)]:
            mine.normal_()
            other.copy_(mine)
    return ours, theirs


def _rows(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3.0 + 2.0 * torch.randn(shape, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_in_training_mode_it_is_torch_s(shape: tuple[int, ...]) -> None:
    ours, theirs = _pair(len(shape))
    for seed in range(4):
        x, y = _rows(*shape, seed=seed).requires_grad_(), _rows(*shape, seed=seed).requires_grad_()
        direction = _rows(*shape, seed=100)
        mine, other = ours(x), theirs(y)
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-10)
        ours.zero_grad()
        theirs.zero_grad()
        (mine * direction).sum().backward()
        (other * direction).sum().backward()
        for a, b in [(x, y), (ours.weight, theirs.weight), (ours.bias, theirs.bias)]:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.running_variance, theirs.running_var, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_in_evaluation_mode_it_is_torch_s(shape: tuple[int, ...]) -> None:
    ours, theirs = _pair(len(shape))
    for seed in range(4):
        ours(_rows(*shape, seed=seed))
        theirs(_rows(*shape, seed=seed))
    x = _rows(*shape, seed=9)
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(ours(x[:1]), theirs(x[:1]), rtol=1e-10, atol=1e-10)
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())


def test_what_is_collected_is_the_batch_s_and_carries_its_graph() -> None:
    ours, _ = _pair(2)
    x = _rows(12, 3, seed=2).requires_grad_()
    ours(_rows(20, 3, seed=1))
    with collecting() as taken:
        ours(x)
        ours.eval()(x)
        ours.train()
    ours(x)
    ((mean, variance),) = taken
    torch.testing.assert_close(mean, x.mean(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(variance, x.var(0, correction=0), rtol=1e-12, atol=1e-12)
    (slope,) = torch.autograd.grad(mean.sum(), x)
    torch.testing.assert_close(slope, torch.full_like(x, 1 / 12))


@pytest.mark.parametrize("training", [True, False])
def test_given_statistics_are_applied_whatever_the_mode(training: bool) -> None:
    ours, _ = _pair(2)
    last = _rows(12, 3, seed=2)
    mean, variance = last.mean(0), last.var(0, correction=0).requires_grad_()
    ours(_rows(20, 3, seed=1))
    ours.train(training)
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    x = (5 * _rows(4, 3, seed=3) - 1).requires_grad_()
    with applying(((mean, variance),)):
        given = ours(x)
    expected = F.batch_norm(x, mean, variance.detach(), ours.weight, ours.bias)
    torch.testing.assert_close(given, expected, rtol=1e-12, atol=1e-12)
    # a row's gradient is its own, and torch's with given statistics
    (mine,) = torch.autograd.grad(given[2].sum(), x, retain_graph=True)
    (other,) = torch.autograd.grad(expected[2].sum(), x)
    torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)
    assert not mine[[0, 1, 3]].any()
    (slope,) = torch.autograd.grad(given.square().sum(), variance)
    assert bool(slope.any())
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())
    with applying(((mean, variance),)):
        assert ours(x[:1]).shape == (1, 3)  # no batch is needed


def test_there_must_be_as_many_statistics_as_batch_norms() -> None:
    ours, _ = _pair(2)
    one = (torch.zeros(3).double(), torch.ones(3).double())
    with pytest.raises(ContractError, match="fewer statistics than batch norms"), applying(()):
        ours(_rows(4, 3))
    with pytest.raises(ContractError, match="more statistics than batch norms"), applying((one, one)):
        ours(_rows(4, 3))
    assert not ours.running_mean.any()
    ours(_rows(4, 3))  # nothing is left of either


def test_one_value_a_feature_is_refused_in_training_mode() -> None:
    """As by torch: it would become the bias, whatever it is."""
    with pytest.raises(ValueError, match=r"2 values a feature or more, got 1; use eval\(\)"):
        BatchNorm(3)(torch.zeros(1, 3))
    assert BatchNorm(3)(torch.randn(1, 3, 2, 2)).shape == (1, 3, 2, 2)
    assert BatchNorm(3).eval()(torch.zeros(1, 3)).shape == (1, 3)
