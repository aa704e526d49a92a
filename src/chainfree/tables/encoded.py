"""Columns of the tensors that a table becomes, and how energy discrepancy perturbs them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..checks import require_positive
from ..perturbations import Gaussian, Mixed, OrderedHeatKernel, Perturbation, UniformHeatKernel
from .columns import Order

__all__ = ["EncodedColumn", "perturbation_of"]


@dataclass(frozen=True)
class EncodedColumn:
    """A column of the tensors.

    Args:
        name: of the table's column.
        size: number of codes, or ``None`` for a number.
        order: of the codes.
        is_state: whether the codes say what the number of the same name is: 0 one of its density, 1, 2, ... its atoms, the
            last missing.
        reserved: the last of the codes, which no fitted row has.
    """

    name: str
    size: int | None = None
    order: Order = "nominal"
    is_state: bool = False
    reserved: int = 0

    @property
    def seen(self) -> int:
        """Codes that rows may have, from 0 on; 0 for a number."""
        return 0 if self.size is None else self.size - self.reserved


def perturbation_of(columns: Sequence[EncodedColumn], *, noise: float, time: float) -> Mixed:
    """Noise on numbers, on codes the heat kernels of their order; see :meth:`TableEncoder.perturbation`."""
    require_positive("noise", noise)
    require_positive("time", time)
    numbers = [place for place, column in enumerate(columns) if column.size is None]
    parts: list[tuple[Sequence[int], Perturbation]] = [(numbers, Gaussian(t=noise**2))] if numbers else []
    nominal = {
        place: column.seen for place, column in enumerate(columns) if column.seen > 1 and column.order == "nominal"
    }
    if nominal:
        parts.append((list(nominal), UniformHeatKernel(categories=tuple(nominal.values()), t=time)))
    for place, column in enumerate(columns):
        if column.seen > 1 and column.order != "nominal":
            turns = 1 if column.order == "ordinal" else 2
            slowest = 2 - 2 * math.cos(turns * math.pi / column.seen)
            kernel = OrderedHeatKernel(categories=column.seen, order=column.order, t=time / slowest)
            parts.append(([place], kernel))
    if not parts:
        raise ValueError("no column of this table can change; a density of it says nothing")
    return Mixed(parts=parts, width=len(columns))
