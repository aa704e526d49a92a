"""What a column of a table holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["Category", "CategoryColumn", "Column", "NumberColumn", "Order"]

Category: TypeAlias = str | int | float | bool
Order: TypeAlias = Literal["nominal", "ordinal", "cyclic"]


@dataclass(frozen=True, kw_only=True)
class NumberColumn:
    """A column of numbers.

    Args:
        name: of the column.
        whole: whether all are whole numbers, or whole days, so that what is made for it is rounded.
        dates: whether they are days since 1970-01-01 UTC, and dates in the table.
        low, high: the least and the greatest seen.
        missing: whether some cells were missing.
        decimals: digits after the point that no cell exceeds, up to six, of dates those of their seconds; ``None`` where some
            do. What is made for the column is rounded to them.
        step: of whole numbers, the largest that all but at most a thousandth are multiples of: limits in ten thousands. What
            is made for the column is rounded to it; scores know nothing of it.
        atoms: values that so many rows share that they have mass of their own: the zeros of an amount, the 40 of working
            hours. What is left is continuous.
    """

    name: str
    whole: bool = False
    dates: bool = False
    low: float
    high: float
    missing: bool = False
    decimals: int | None = None
    step: int = 1
    atoms: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CategoryColumn:
    """A column of categories.

    Args:
        name: of the column.
        values: of the codes 0, 1, ..., in their order where they have one. Booleans are ``(False, True)``.
        order: ``"nominal"`` for none, ``"ordinal"`` for a path, ``"cyclic"`` for a circle such as weekdays.
        missing: whether some cells were missing.
    """

    name: str
    values: tuple[Category, ...]
    order: Order = "nominal"
    missing: bool = False


Column: TypeAlias = NumberColumn | CategoryColumn
