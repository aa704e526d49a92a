r"""The path from a base density to the target that tempering and annealing go along.

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

from .gradients import value_and_gradient
from .kernels import LogDensity
from .metropolis import per_row

__all__ = ["Point", "ladder", "place", "require_betas", "shift"]


class Point(NamedTuple):
    """Rows, each at its own place of the path, with both ends' values, so that a row may change its place at no cost.

    Args:
        x: ``(N, *event)``.
        log_density: at the row's place, ``(N,)``.
        gradient: of it, ``(N, *event)``.
        target: log-density of the target, ``(N,)``.
        target_gradient: of it, ``(N, *event)``.
        base: log-density of the base, ``(N,)``.
        base_gradient: of it, ``(N, *event)``.
    """

    x: Tensor
    log_density: Tensor
    gradient: Tensor
    target: Tensor
    target_gradient: Tensor
    base: Tensor
    base_gradient: Tensor


def place(log_density: LogDensity, base: LogDensity | None, betas: Tensor, x: Tensor) -> Point:
    """Rows ``(N, *event)`` at the places ``betas``, ``(N,)`` or ``()``: one forward and backward pass for all."""
    target, slope = value_and_gradient(log_density, x)
    if base is None:
        from_base, base_slope = torch.zeros_like(target), torch.zeros_like(slope)
    else:
        from_base, base_slope = value_and_gradient(base, x)
    return shift(Point(x.detach(), target, slope, target, slope, from_base, base_slope), betas)


def shift(point: Point, betas: Tensor) -> Point:
    """The same rows at other places."""
    rows = per_row(betas, point.x) if betas.dim() else betas
    return point._replace(
        log_density=_mix(betas, point.target, point.base),
        gradient=_mix(rows, point.target_gradient, point.base_gradient),
    )


def _mix(betas: Tensor, target: Tensor, base: Tensor) -> Tensor:
    # where one end has no weight it may be infinite
    return torch.where(betas > 0, betas * target, 0.0) + torch.where(betas < 1, (1 - betas) * base, 0.0)


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
