"""Batch normalisation whose statistics travel with what they normalised."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn

from ..checks import ContractError, require_positive_int

__all__ = ["BatchNorm", "Statistics", "applying", "collecting"]

Statistics = tuple[tuple[Tensor, Tensor], ...]
"""Mean and biased variance, ``(features,)`` each, of every batch norm in the order of a pass."""

_MOMENTUM = 0.1
_EPS = 1e-5

# of the pass that is running; never on a module, which would keep a batch's graph alive and could not be copied
_taken: ContextVar[list[tuple[Tensor, Tensor]] | None] = ContextVar("_taken", default=None)
_given: ContextVar[Iterator[tuple[Tensor, Tensor]] | None] = ContextVar("_given", default=None)


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe and Szegedy, 2015) over all axes but the second.

    In training mode it normalises by the batch, as usual, and within :func:`collecting` hands out what it took. Within
    :func:`applying` it normalises by given statistics: passes that must see the very function that made the samples (a
    posterior's, whose batches are many times as large and differently distributed) then do. In evaluation mode it uses
    running averages; their variance is the unbiased one, as in torch.

    Args:
        features: length of the second axis.

    Raises:
        ValueError: ``features`` below 1, or in training mode a batch with one value a feature.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        require_positive_int("features", features)
        self.momentum = _MOMENTUM
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.running_mean: Tensor
        self.running_variance: Tensor
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_variance", torch.ones(features))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, scale and shift ``(B, features, ...)``."""
        mean, variance = self._statistics(x)
        shape = [-1] + [1] * (x.dim() - 2)
        scale = self.weight * torch.rsqrt(variance + _EPS)
        return x * scale.view(shape) + (self.bias - mean * scale).view(shape)

    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        given = _given.get()
        if given is not None:
            found = next(given, None)
            if found is None:
                raise ContractError(
                    "there are fewer statistics than batch norms; pass those of a draw of this generator"
                )
            return found
        if not self.training:
            return self.running_mean, self.running_variance
        axes = [0, *range(2, x.dim())]
        count = x.numel() // x.shape[1]
        if count < 2:  # it would return its bias, whatever x is
            raise ValueError(f"batch normalisation takes 2 values a feature or more, got {count}; use eval()")
        variance, mean = torch.var_mean(x, dim=axes, correction=0)
        self._average(mean.detach(), variance.detach() * (count / (count - 1)))
        taken = _taken.get()
        if taken is not None:
            taken.append((mean, variance))
        return mean, variance

    @torch.no_grad()
    def _average(self, mean: Tensor, variance: Tensor) -> None:
        self.running_mean.lerp_(mean, self.momentum)
        self.running_variance.lerp_(variance, self.momentum)


@contextmanager
def collecting() -> Iterator[list[tuple[Tensor, Tensor]]]:
    """The list that batch norms in training mode add to, statistics with their graph, until the block ends."""
    taken: list[tuple[Tensor, Tensor]] = []
    token = _taken.set(taken)
    try:
        yield taken
    finally:
        _taken.reset(token)


@contextmanager
def applying(statistics: Statistics) -> Iterator[None]:
    """Batch norms take these in turn, whatever their mode; none of theirs changes.

    Raises:
        ContractError: more batch norms were passed than there are statistics, or fewer.
    """
    left = iter(statistics)
    token = _given.set(left)
    try:
        yield
    finally:
        _given.reset(token)
    if next(left, None) is not None:
        raise ContractError("there are more statistics than batch norms; pass those of a draw of this generator")
