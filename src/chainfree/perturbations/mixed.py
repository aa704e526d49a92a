"""Perturbation of rows whose columns are of different kinds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..checks import require_positive_int
from .base import Perturbation, Perturbed

__all__ = ["Mixed"]


@dataclass(frozen=True, kw_only=True)
class Mixed:
    r"""Every group of columns by a perturbation of its own, independently: noise on numbers, heat kernels on categories.

    The kernel is the product of its parts, so the reverse draw is the product of theirs. Rows are ``(B, D)``, categories as
    codes 0, 1, ... in the rows' own floats. Columns in no group stay as they are: the energy is then learned as one of the
    others given these.

    Args:
        parts: columns, and what perturbs the rows ``(B, number of columns)`` of these.
        width: D.

    Raises:
        ValueError: no parts, a column that is not there or in two parts, or a part that refuses so many columns.

    >>> from chainfree.perturbations import Gaussian, UniformHeatKernel
    >>> rows = torch.tensor([[0.3, 2.0, -1.2], [1.1, 0.0, 0.4]])
    >>> noise, kernel = Gaussian(t=0.01), UniformHeatKernel(categories=3)
    >>> Mixed(parts=[([0, 2], noise), ([1], kernel)], width=3).perturb(rows).y.shape
    torch.Size([2, 3])
    """

    parts: Sequence[tuple[Sequence[int], Perturbation]]
    width: int
    _has_scale: tuple[bool, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_positive_int("width", self.width)
        taken = [column for columns, _ in self.parts for column in columns]
        if not taken or not all(columns for columns, _ in self.parts):
            raise ValueError("parts must name columns and what perturbs them, got an empty part")
        if len(set(taken)) < len(taken) or not set(taken) <= set(range(self.width)):
            raise ValueError(f"every column from 0 to {self.width - 1} may be in one part, got {taken}")
        probe = torch.Generator().manual_seed(0)
        tried = [part.perturb(torch.zeros(1, len(columns)), generator=probe) for columns, part in self.parts]
        object.__setattr__(self, "_has_scale", tuple(perturbed.scale is not None for perturbed in tried))

    def perturb(self, x: Tensor, /, *, generator: torch.Generator | None = None) -> Perturbed:
        """Rows ``(B, D)``; ``scale`` holds each column's where its part has any, 0 elsewhere.

        Raises:
            ValueError: rows of another width.
        """
        if x.dim() != 2 or x.shape[1] != self.width:
            raise ValueError(f"rows must be (B, {self.width}), got shape {tuple(x.shape)}")
        y, scale = x.clone(), torch.zeros_like(x) if any(self._has_scale) else None
        for columns, part in self.parts:
            perturbed = part.perturb(x[:, columns], generator=generator)
            y[:, columns] = perturbed.y
            if perturbed.scale is not None:
                assert scale is not None  # the same settings as when they were tried
                scale[:, columns] = perturbed.scale.expand(len(x), len(columns))
        return Perturbed(y, scale)

    def recover(self, perturbed: Perturbed, draws: int, /, *, generator: torch.Generator | None = None) -> Tensor:
        """Rows ``(draws, B, D)``."""
        y, scale = perturbed
        recovered = y.repeat(draws, 1, 1)
        for (columns, part), has_scale in zip(self.parts, self._has_scale, strict=True):
            own = Perturbed(y[:, columns], scale[:, columns] if has_scale and scale is not None else None)
            recovered[:, :, columns] = part.recover(own, draws, generator=generator)
        return recovered
