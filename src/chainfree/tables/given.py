"""Values that somebody names, as codes and numbers of a column."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..datasets import DataError
from .cells import plain
from .columns import CategoryColumn, NumberColumn
from .series import DAY, EPOCH

__all__ = ["given_code", "given_state", "instant"]


def instant(value: Any) -> Any:
    """A date as pandas has it, of UTC and without saying so."""
    import pandas as pd

    when = pd.Timestamp(value)
    return when if when.tz is None else when.tz_convert("UTC").tz_localize(None)


def given_code(column: CategoryColumn, value: Any) -> int:
    """The code of a value; ``None`` is a missing cell."""
    if value is None:
        if not column.missing:
            raise DataError(f"column {column.name!r} had no missing cells; give it a value")
        return len(column.values)
    cell = plain(value)
    for code, known in enumerate(column.values):
        if known == cell and isinstance(known, bool) == isinstance(cell, bool):
            return code
    raise DataError(f"column {column.name!r} has no {value!r}; it has {', '.join(map(repr, column.values))}")


def given_state(column: NumberColumn, value: Any) -> tuple[int, float]:
    """Which of the states a number is in, and the number itself."""
    if value is None:
        if not column.missing:
            raise DataError(f"column {column.name!r} had no missing cells; give it a number")
        return 1 + len(column.atoms), math.nan
    try:
        number = float((np.datetime64(instant(value), "us") - EPOCH) / DAY) if column.dates else float(value)
    except (TypeError, ValueError):
        wanted = "a date" if column.dates else "a number"
        raise DataError(f"column {column.name!r} takes {wanted}, got {value!r}") from None
    if not math.isfinite(number):
        raise DataError(f"column {column.name!r} takes finite numbers, got {value!r}")
    if column.whole and number != int(number):
        raise DataError(f"column {column.name!r} holds whole {'days' if column.dates else 'numbers'}, got {value!r}")
    return (column.atoms.index(number) + 1 if number in column.atoms else 0), number
