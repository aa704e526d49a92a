"""Batch normalisation against torch's, and what torch's cannot: holding a batch's statistics."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chainfree.generators import BatchNorm

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


def test_held_statistics_are_the_last_batch_s_and_constants() -> None:
    ours, _ = _pair(2)
    ours(_rows(20, 3, seed=1))
    last = _rows(12, 3, seed=2)
    ours(last)
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    ours.held = True
    x = (5 * _rows(4, 3, seed=3) - 1).requires_grad_()
    held = ours(x)
    expected = F.batch_norm(x, last.mean(0), last.var(0, correction=0), ours.weight, ours.bias)
    torch.testing.assert_close(held, expected, rtol=1e-12, atol=1e-12)
    # constants: a row's gradient is its own, and torch's with given statistics
    (mine,) = torch.autograd.grad(held[2].sum(), x, retain_graph=True)
    (other,) = torch.autograd.grad(expected[2].sum(), x)
    torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)
    assert not mine[[0, 1, 3]].any()
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())
    assert ours(x[:1]).shape == (1, 3)  # no batch is needed


def test_a_held_pass_is_differentiated_at_the_statistics_it_saw() -> None:
    """The next batch overwrites the buffers before the backward pass."""
    ours, _ = _pair(2)
    ours(_rows(8, 3, seed=1))
    ours.held = True
    x = _rows(4, 3, seed=2).requires_grad_()
    expected = torch.autograd.grad(ours(x).square().sum(), (x, ours.weight))
    values = ours(x)
    ours.held = False
    ours(10 * _rows(8, 3, seed=3))
    gradients = torch.autograd.grad(values.square().sum(), (x, ours.weight))
    assert all(torch.equal(mine, other) for mine, other in zip(gradients, expected, strict=True))


def test_one_value_a_feature_is_refused_in_training_mode() -> None:
    """As by torch: it would become the bias, whatever it is."""
    with pytest.raises(ValueError, match=r"2 values a feature or more, got 1; use eval\(\)"):
        BatchNorm(3)(torch.zeros(1, 3))
    assert BatchNorm(3)(torch.randn(1, 3, 2, 2)).shape == (1, 3, 2, 2)
    assert BatchNorm(3).eval()(torch.zeros(1, 3)).shape == (1, 3)
