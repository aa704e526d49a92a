"""Columns of tensors as columns of pandas."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .columns import CategoryColumn, NumberColumn

__all__ = ["DAY", "EPOCH", "category_series", "number_series"]

EPOCH = np.datetime64("1970-01-01T00:00:00", "us")
DAY = np.timedelta64(1, "D")
_LARGEST_INTEGER = 2.0**62


def number_series(column: NumberColumn, values: NDArray[np.float64]) -> Any:
    """Of numbers ``(N,)`` in the table's units, NaN where missing: rounded as the column is, days as dates."""
    import pandas as pd

    missing = np.isnan(values)
    if column.dates:
        days = np.round(values) if column.whole else values
        span = column.high - column.low + 1.0  # of a draw beyond it no calendar knows
        days = np.clip(np.where(missing, 0.0, days), column.low - span, column.high + span)
        seconds = days * 86_400
        micro = np.round((seconds if column.decimals is None else np.round(seconds, column.decimals)) * 1e6).astype(
            np.int64
        )
        return pd.Series(EPOCH + micro.astype("timedelta64[us]")).mask(missing)
    if column.whole:
        steps = np.round(np.where(missing, 0.0, values) / column.step)
        rounded = (steps * column.step).clip(-_LARGEST_INTEGER, _LARGEST_INTEGER)
        whole = pd.Series(rounded.astype(np.int64))
        return whole.astype("Int64").mask(missing) if missing.any() else whole
    return pd.Series(values if column.decimals is None else np.round(values, column.decimals))


def category_series(column: CategoryColumn, codes: NDArray[np.int64]) -> Any:
    """Of codes ``(N,)``; missing where a code is none of the column's values."""
    import pandas as pd

    codes = np.where(codes < len(column.values), codes, -1)
    if column.order == "ordinal" and isinstance(column.values[0], str):
        return pd.Series(
            pd.Categorical.from_codes(codes, categories=pd.Index([str(v) for v in column.values]), ordered=True)
        )
    known = np.array([*column.values, None], dtype=object)
    if isinstance(column.values[0], str):
        return pd.Series(known[codes].tolist(), dtype=None if len(codes) else object)  # pandas' own kind of text
    missing = bool((codes < 0).any())
    kinds = {bool: ("bool", "boolean"), int: ("int64", "Int64"), float: ("float64", "float64")}
    return pd.Series(known[codes], dtype=kinds[type(column.values[0])][missing])
