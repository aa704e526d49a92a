r"""The path from a base density to the target that tempering, annealing and annealed importance sampling go along.

.. math:: \log p_\beta(x) = (1 - \beta) \log p_0(x) + \beta \log p(x) + \text{const}

Without a base :math:`\log p_0 = 0`, which leaves :math:`p^\beta`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..blocks import rows_at_a_time
from .gradients import value_and_gradient
from .kernels import LogDensity

__all__ = ["Point", "ladder", "mixed", "place", "require_betas"]


class Point(NamedTuple):
    """Rows at places of the path, with both ends' values, so that a row may change its place at no cost.

    Args:
        x: ``(N, *event)``.
        betas: places of the rows: K for as many blocks of N / K rows, ``(K,)``.
        target: log-density of the target, ``(N,)``.
        target_gradient: of it, ``(N, *event)``.
        base: log-density of the base, ``(N,)``; ``None`` without a base.
        base_gradient: of it, ``(N, *event)``; ``None`` without a base.
    """

    x: Tensor
    betas: Tensor
    target: Tensor
    target_gradient: Tensor
    base: Tensor | None
    base_gradient: Tensor | None

    @property
    def log_density(self) -> Tensor:
        """At each row's place, ``(N,)``."""
        return mixed(self.betas, self.target, self.base)

    @property
    def gradient(self) -> Tensor:
        """Of it, ``(N, *event)``."""
        return mixed(self.betas, self.target_gradient, self.base_gradient)

    @property
    def gain(self) -> Tensor:
        r""":math:`\log p - \log p_0`, ``(N,)``: what the log-density gains along the path."""
        return self.target if self.base is None else self.target - self.base

    def take(self, index: Tensor, /) -> Point:
        """The rows of ``index`` at the places that are there."""
        return Point(
            self.x.index_select(0, index),
            self.betas,
            self.target.index_select(0, index),
            self.target_gradient.index_select(0, index),
            None if self.base is None else self.base.index_select(0, index),
            None if self.base_gradient is None else self.base_gradient.index_select(0, index),
        )


def place(log_density: LogDensity, base: LogDensity | None, betas: Tensor, x: Tensor) -> Point:
    """Rows ``(N, *event)`` at the places ``betas``, ``(K,)``: one forward and backward pass for all, or for as many as fit.

    The densities must not know which row is which: with many, they are given some at a time.
    """
    target, slope = _in_parts(log_density, x)
    from_base, base_slope = (None, None) if base is None else _in_parts(base, x)
    return Point(x.detach(), betas, target, slope, from_base, base_slope)


def _in_parts(log_density: LogDensity, x: Tensor) -> tuple[Tensor, Tensor]:
    most = rows_at_a_time(x)
    if len(x) <= most:
        return value_and_gradient(log_density, x)
    parts = [value_and_gradient(log_density, part) for part in x.split(most)]
    return torch.cat([values for values, _ in parts]), torch.cat([gradient for _, gradient in parts])


def mixed(betas: Tensor, target: Tensor, base: Tensor | None) -> Tensor:
    """Log-densities of both ends, or their gradients, ``(N, ...)``, mixed at the places ``(K,)`` of K blocks of rows."""
    # a factor for each block of rows, not for each row: stretched over short rows it would be several times slower
    places = betas.unsqueeze(1)
    mixed = places * target.reshape(len(betas), -1)
    if base is not None:
        # where one end has no weight it may be infinite
        rest = (1 - places) * base.reshape(len(betas), -1)
        mixed = torch.where(places > 0, mixed, 0.0) + torch.where(places < 1, rest, 0.0)
    return mixed.view(target.shape)


def ladder(levels: int, hottest: float) -> list[float]:
    r"""Inverse temperatures from 1 down to ``hottest`` in equal ratios, for :func:`chainfree.samplers.tempering.init`.

    Equal ratios swap equally often where the energy grows like a square. Reversed they are a schedule for
    :func:`chainfree.samplers.anneal`.

    >>> ladder(3, 0.25)
    [1.0, 0.5, 0.25]
    """
    if not isinstance(levels, int) or isinstance(levels, bool) or levels < 2:
        raise ValueError(f"levels must be a whole number of at least 2, got {levels!r}")
    if not 0 < hottest < 1:
        raise ValueError(f"hottest must be between 0 and 1, got {hottest!r}; it is an inverse temperature")
    return [hottest ** (k / (levels - 1)) for k in range(levels)]


def require_betas(betas: Sequence[float] | Tensor, base: LogDensity | None, *, rising: bool) -> Tensor:
    """The inverse temperatures as float64, on the host.

    Raises:
        ValueError: they do not go in one direction from 1 or to 1, leave [0, 1], or have a 0 without a base.
    """
    values = torch.as_tensor(betas, dtype=torch.float64, device="cpu").detach()
    if values.dim() != 1 or not len(values):
        raise ValueError(f"betas must be a list of inverse temperatures, got shape {tuple(values.shape)}")
    given = values.tolist()
    ordered = given if rising else given[::-1]
    increasing = all(math.isfinite(a) and a < b for a, b in itertools.pairwise(ordered))
    if not increasing or ordered[-1] != 1.0 or ordered[0] < 0:
        wanted = "rise from at least 0 to exactly 1" if rising else "fall from exactly 1 to at least 0"
        raise ValueError(f"betas must {wanted}, got {given}")
    if ordered[0] == 0 and base is None:
        raise ValueError("betas reach 0, where nothing is left of the target; give a base density or end above 0")
    return values
