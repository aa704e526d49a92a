"""Values that somebody names, as codes and numbers of a column."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from ..datasets import DataError
from .cells import plain
from .columns import CategoryColumn, NumberColumn
from .series import DAY, EPOCH

__all__ = ["given_code", "given_state", "instant", "is_missing", "timestamp"]

_ISO = re.compile(r"\s*\d{4}-\d{2}-\d{2}")


def is_missing(value: Any) -> bool:
    """Whether a value that somebody names is a missing cell: ``None``, or what frames have for one."""
    import pandas as pd

    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value))


def timestamp(value: Any) -> Any:
    """A date as pandas has it, of text as 2024-12-31 alone: of others days are taken for months.

    Raises:
        ValueError, TypeError: it is no date.
    """
    import pandas as pd

    if isinstance(value, str) and not _ISO.match(value):
        raise ValueError(f"dates are as 2024-12-31, got {value!r}")
    return pd.Timestamp(value)


def instant(value: Any) -> Any:
    """The same of UTC, without saying so."""
    when = timestamp(value)
    return when if when.tz is None else when.tz_convert("UTC").tz_localize(None)


def given_code(column: CategoryColumn, value: Any) -> int:
    """The code of a value, or of a missing cell."""
    if is_missing(value):
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
    if is_missing(value):
        if not column.missing:
            raise DataError(f"column {column.name!r} had no missing cells; give it a number")
        return 1 + len(column.atoms), math.nan
    try:
        number = float((np.datetime64(instant(value), "us") - EPOCH) / DAY) if column.dates else float(value)
    except (TypeError, ValueError):
        wanted = "a date, as 2024-12-31" if column.dates else "a number"
        raise DataError(f"column {column.name!r} takes {wanted}, got {value!r}") from None
    if not math.isfinite(number):
        raise DataError(f"column {column.name!r} takes finite numbers, got {value!r}")
    if column.whole and number != int(number):
        raise DataError(f"column {column.name!r} holds whole {'days' if column.dates else 'numbers'}, got {value!r}")
    return (column.atoms.index(number) + 1 if number in column.atoms else 0), number
