"""Types of a table's columns, so that rows that are made have those of the rows that were fitted."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from ..tables import CategoryColumn, Column

__all__ = ["cast_frame", "cast_pandas", "types_of", "zone_of"]

_INTEGER = re.compile(r"(u?)int(8|16|32|64)", re.IGNORECASE)
_DATETIME = re.compile(r"Datetime\(time_unit='(\w+)', time_zone=(None|'(.+)')\)")
_ZONED = re.compile(r"datetime64\[\w+, (.+)\]")


def types_of(table: Any) -> dict[str, str]:
    """Names of the types by column: pandas' own of its frames, narwhals' of all others'."""
    if isinstance(table, pd.DataFrame):
        return {str(name): str(kind) for name, kind in table.dtypes.items()}
    return {name: str(kind) for name, kind in nw.from_native(table, eager_only=True).schema.items()}


def zone_of(kind: str) -> str | None:
    """Of a type of dates, its zone, if it has one."""
    zoned, when = _ZONED.fullmatch(kind), _DATETIME.fullmatch(kind)
    return zoned[1] if zoned is not None else None if when is None else when[3]


def cast_pandas(table: pd.DataFrame, types: Mapping[str, str], columns: Sequence[Column]) -> pd.DataFrame:
    """A frame of pandas with these types of pandas.

    Whole numbers beyond a type's range become its ends. Where a type has no missing value and there are some, the type of
    the same name that has one takes its place. Columns of objects are left as they are.

    Args:
        table: decoded rows; dates are naive, of UTC.
        types: of :func:`types_of`; columns that are not in it stay.
        columns: of the schema: types of categories have all their values.
    """
    return table.assign(
        **{
            column.name: _cast(table[column.name], types[column.name], column)
            for column in columns
            if column.name in types
        }
    )


def cast_frame(frame: Any, types: Mapping[str, str]) -> Any:
    """A frame of another library with these types of narwhals; dates are naive, of UTC."""
    casts = []
    for name, kind in types.items():
        column, when = nw.col(name), _DATETIME.fullmatch(kind)
        if when is not None:
            unit: Any = when[1]
            if when[3] is not None:
                column = column.dt.replace_time_zone("UTC").dt.convert_time_zone(when[3])
            casts.append(column.cast(nw.Datetime(unit, when[3])))
        elif isinstance(getattr(nw, kind, None), type):  # Enum and what is nested have arguments, and stay as they are
            casts.append(column.cast(getattr(nw, kind)))
    return frame.with_columns(*casts)


def _cast(series: Any, kind: str, column: Column) -> Any:
    if kind == "object":
        return series
    if kind == "category":
        ordered = isinstance(series.dtype, pd.CategoricalDtype) and series.dtype.ordered
        values = list(column.values) if isinstance(column, CategoryColumn) else None
        return series.astype(pd.CategoricalDtype(values, ordered=bool(ordered)))
    zoned = _ZONED.fullmatch(kind)
    if zoned is not None:
        return series.dt.tz_localize("UTC").dt.tz_convert(zoned[1]).astype(kind)
    whole = _INTEGER.match(kind)
    if whole is not None and series.dtype.kind in "iuf":
        ends = np.iinfo(whole[0].lower())
        series = series.clip(ends.min, ends.max)
    if series.isna().any():
        if whole is not None and kind[0] in "iu":
            kind = kind.replace("uint", "UInt").replace("int", "Int") if "[" not in kind else kind
        kind = "boolean" if kind == "bool" else kind
    return series.astype(kind)
