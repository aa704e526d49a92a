r"""Heat kernels on graphs of categories: :math:`q_t = \exp(t R)`, with R the graph's generator.

Schroeder, Ou, Li, Duncan, "Energy-Based Modelling for Discrete and Mixed Data via Heat Equations on Structured Spaces",
NeurIPS 2024, arXiv 2412.01019.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, cast

import torch
from torch import Tensor

from ..checks import require_positive, require_positive_int
from .base import Perturbed
from .categories import Categories, category_counts, require_categories, require_codes
from .gaussian import LogUniform

__all__ = ["OrderedHeatKernel", "UniformHeatKernel"]

Order = Literal["cyclic", "ordinal"]


class _HeatKernel:
    """The way out and the way back, which are one move: the kernels are symmetric."""

    categories: Categories
    t: float | LogUniform

    def perturb(self, x: Tensor, /, *, generator: torch.Generator | None = None) -> Perturbed:
        """Codes ``(B, *event)``; ``scale`` holds the times where they are not one number.

        Raises:
            ValueError: another number of sites than of ``categories``.
            ContractError: codes of no category, where they are on the CPU.
        """
        require_codes(x, category_counts(self.categories, x))
        times = _times(self.t, x, generator)
        return Perturbed(self._move(x, x.shape, times, generator), times)

    def recover(self, perturbed: Perturbed, draws: int, /, *, generator: torch.Generator | None = None) -> Tensor:
        """Codes ``(draws, B, *event)``, with the datum's own time."""
        y, times = perturbed
        return self._move(y, (draws, *y.shape), times, generator)

    def _move(
        self, x: Tensor, shape: tuple[int, ...] | torch.Size, times: Tensor | None, generator: torch.Generator | None
    ) -> Tensor:
        """Every code of ``x``, spread over ``shape``, after the time ``t``, or after its datum's."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class UniformHeatKernel(_HeatKernel):
    r"""A category stays with probability :math:`e^{-t}` and is else drawn anew, all equally likely; the reverse is the same.

    The heat kernel of the complete graph, for categories without order. Sites are independent.

    Args:
        categories: S, number of values 0, 1, ... of every site, or one for each site of flat rows.
        t: time: a number, or :class:`LogUniform` for one drawn for every datum, which it keeps in both directions.

    Raises:
        ValueError: less than two values, or a time that is not a finite number above 0.

    >>> UniformHeatKernel(categories=(2, 5), t=0.7).perturb(torch.zeros(3, 2)).y.shape
    torch.Size([3, 2])
    """

    categories: Categories
    t: float | LogUniform = 1.0

    def __post_init__(self) -> None:
        require_categories(self.categories)
        _require_time(self.t)

    def _move(
        self, x: Tensor, shape: tuple[int, ...] | torch.Size, times: Tensor | None, generator: torch.Generator | None
    ) -> Tensor:
        stays, drawn = torch.rand((2, *shape), generator=generator, device=x.device)
        counts = category_counts(self.categories, x)
        # a number just below 1, times S, may round to S
        anew = torch.minimum((drawn * counts).long(), counts - 1)
        until = -torch.log(stays)
        stayed = until > cast(float, self.t) if times is None else until > times
        return torch.where(stayed, x, anew.to(x.dtype))


@dataclass(frozen=True, kw_only=True)
class OrderedHeatKernel(_HeatKernel):
    r"""Diffusion along a path of categories, or around a circle of them; the reverse is the same.

    Neighbours pass into each other at rate one, so :math:`q_t = \exp(tR)` has the cosine transform's eigenvectors on the
    path, with :math:`2\cos(\pi p / S) - 2`, and Fourier's on the circle, with :math:`2\cos(2\pi p / S) - 2`,
    :math:`p = 0, \dots, S - 1`. After a time of :math:`S^2` nothing is left of the data; a move of k categories takes about
    :math:`k^2 / 2`. Sites are independent.

    Args:
        categories: S, number of values 0, 1, ... of every site.
        order: ``"ordinal"`` for a path, ``"cyclic"`` for a circle.
        t: as in :class:`UniformHeatKernel`.

    Raises:
        ValueError: less than two values, another order, or a time that is not a finite number above 0.
    """

    categories: int
    order: Order
    t: float | LogUniform = 1.0

    def __post_init__(self) -> None:
        require_positive_int("categories", self.categories)
        require_categories(self.categories)
        if self.order not in ("cyclic", "ordinal"):
            raise ValueError(f"order must be 'cyclic' or 'ordinal', got {self.order!r}")
        _require_time(self.t)

    def _move(
        self, x: Tensor, shape: tuple[int, ...] | torch.Size, times: Tensor | None, generator: torch.Generator | None
    ) -> Tensor:
        levels = torch.rand(shape, generator=generator, device=x.device, dtype=torch.float64)
        codes = x.long()
        if times is None:
            assert isinstance(self.t, float | int)  # who else has no times
            upto = _cumulated(self.categories, self.order, float(self.t)).to(x.device)
            # rows one after the other, each a whole higher than the one before: one search for all
            shifted = (upto + torch.arange(self.categories, device=x.device).unsqueeze(1)).flatten()
            found = torch.searchsorted(shifted, (codes + levels).contiguous(), right=True) - self.categories * codes
        else:
            values, vectors = (part.to(x.device) for part in _spectrum(self.categories, self.order))
            decayed = vectors[codes] * torch.exp(times.double().unsqueeze(-1) * values)
            upto = _as_distribution(decayed @ vectors.T)  # (B, *event, S)
            upto = upto.expand(*shape, self.categories).contiguous()
            found = torch.searchsorted(upto, levels.unsqueeze(-1), right=True).squeeze(-1)
        return found.clamp(0, self.categories - 1).to(x.dtype)


def _require_time(t: float | LogUniform) -> None:
    if not isinstance(t, LogUniform):
        require_positive("t", t)


def _times(t: float | LogUniform, x: Tensor, generator: torch.Generator | None) -> Tensor | None:
    if not isinstance(t, LogUniform):
        return None
    like = x if x.is_floating_point() else x.new_empty(0, dtype=torch.get_default_dtype())
    return t.draw(len(x), like, generator).view(-1, *(1,) * (x.dim() - 1))


@lru_cache(maxsize=64)
def _spectrum(categories: int, order: Order) -> tuple[Tensor, Tensor]:
    """Eigenvalues ``(S,)`` and orthonormal eigenvectors, a column each, ``(S, S)``, of the graph's generator."""
    place = torch.arange(categories, dtype=torch.float64)
    if order == "ordinal":
        frequency = math.pi * place / categories
        vectors = torch.cos(torch.outer(place + 0.5, frequency))
    else:
        frequency = 2 * math.pi * place / categories
        # cos + sin: the real transform of Hartley, whose columns are orthogonal
        angle = torch.outer(place, frequency)
        vectors = torch.cos(angle) + torch.sin(angle)
    return 2 * torch.cos(frequency) - 2, vectors / vectors.norm(dim=0)


@lru_cache(maxsize=64)
def _cumulated(categories: int, order: Order, t: float) -> Tensor:
    """Distribution functions of ``q_t(. | x)``, a row for every x, ``(S, S)``, the last entry 1."""
    values, vectors = _spectrum(categories, order)
    return _as_distribution((vectors * torch.exp(t * values)) @ vectors.T)


def _as_distribution(probabilities: Tensor) -> Tensor:
    """Cumulated along the last axis, after what rounding did to a sum of one and to zeros."""
    upto = probabilities.clamp_min(0).cumsum(-1)
    return upto / upto[..., -1:]
