"""A table's cells as arrays, whatever library made the table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
from numpy.typing import NDArray

from ..datasets import DataError
from ..datasets.wording import one_line
from .columns import Category

__all__ = ["cells", "codes_of", "plain", "table_of"]

_DAY = 86_400e6  # microseconds


def table_of(frame: Any) -> nw.DataFrame[Any]:
    """The frame behind narwhals' interface.

    Raises:
        DataError: it is no frame, has no rows or columns, or a name that is repeated or no text.
    """
    if hasattr(frame, "dtypes"):  # of pandas: narwhals would stumble over its names
        _require_names(list(frame.columns))
    try:
        table: nw.DataFrame[Any] = nw.from_native(frame, eager_only=True)
    except TypeError as error:
        raise DataError(f"this is no table: {one_line(error)}") from None
    _require_names(table.columns)
    if not len(table) or not table.columns:
        raise DataError(f"the table has {len(table)} rows and {len(table.columns)} columns; give at least one of each")
    return table


def cells(series: nw.Series[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Values of a column, ``(N,)``, and which are missing, ``(N,)``: null, NaN or NaT. Dates are days since 1970-01-01 UTC.

    Values at missing cells mean nothing.

    Raises:
        DataError: text, numbers and booleans in one column, or cells of another kind.
    """
    if isinstance(series.dtype, nw.Duration | nw.Time):
        raise DataError(f"column {series.name!r} holds {series.dtype}; make numbers of it")
    if isinstance(series.dtype, nw.Decimal):
        series = series.cast(nw.Float64)
    missing = series.is_null().to_numpy().astype(bool)
    if series.dtype.is_temporal():
        return _days(series), missing
    if series.dtype.is_numeric():
        values = series.fill_null(0).to_numpy()
        if values.dtype.kind == "f":
            missing = missing | np.isnan(values)  # Polars' NaN is no null
            values = np.where(missing, 0.0, values)
        return values, missing
    if series.dtype == nw.Boolean:
        return series.fill_null(False).to_numpy().astype(bool), missing
    values = np.empty(len(series), dtype=object)
    values[:] = series.to_list()
    kinds = {_kind(kind) for kind in set(map(type, values[~missing]))}
    if len(kinds) > 1:
        raise DataError(f"column {series.name!r} mixes {' and '.join(sorted(kinds))}; make it one type")
    if kinds - {"text", "numbers", "booleans"}:
        raise DataError(f"column {series.name!r} holds {kinds.pop()}, which is no cell of a table; drop it")
    if kinds == {"text"} or not kinds:
        return values, missing
    values[missing] = 0
    return values.astype(bool if kinds == {"booleans"} else float), missing


def codes_of(series: nw.Series[Any], known: Sequence[Category]) -> NDArray[np.int64]:
    """Places of the cells among the known categories, ``(N,)``; one beyond them for missing cells, two for strange ones.

    Raises:
        DataError: as :func:`cells`, or text, numbers or booleans where another of these was.
    """
    absent, strange = len(known), len(known) + 1
    held = {_kind(type(value)) for value in known}
    if series.dtype == nw.String and held == {"text"}:
        import pandas as pd

        code_of = {value: code for code, value in enumerate(known)}
        places, distinct = pd.factorize(series.to_pandas())  # -1 where a cell is missing
        if not all(isinstance(cell, str) for cell in distinct):
            cells(series)  # a column of objects, which says why not
        return np.array([*(code_of.get(cell, strange) for cell in distinct), absent], dtype=np.int64)[places]
    values, missing = cells(series)
    kinds = {"O": "text", "b": "booleans"}
    holds = kinds.get(values.dtype.kind, "numbers")
    if holds not in held and not missing.all():
        raise DataError(
            f"column {series.name!r} held {held.pop()} and holds {holds} now; make it what it was, as read_file does"
        )
    place = {(type(value) is bool, value): code for code, value in enumerate(known)}
    # one look-up for each distinct cell, not for each cell
    if values.dtype == object:
        code_at = {cell: place.get((False, cell), strange) for cell in set(values[~missing])}
        codes = np.fromiter((code_at.get(cell, absent) for cell in values), dtype=np.int64, count=len(values))
    else:
        seen, inverse = np.unique(values, return_inverse=True)
        cell_of = [plain(value) for value in seen]
        codes = np.array([place.get((type(cell) is bool, cell), strange) for cell in cell_of], dtype=np.int64)[inverse]
    codes[missing] = absent
    return codes


def plain(value: Any) -> Category:
    """A Python value; a whole number where it is one, so that 1.0 and 1 are one category."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, float | int | np.number):
        return int(value) if float(value).is_integer() else float(value)
    return str(value)


def _days(series: nw.Series[Any]) -> NDArray[np.float64]:
    dates = series.cast(nw.Datetime("us")) if series.dtype == nw.Date else series
    return dates.dt.timestamp("us").fill_null(0).to_numpy().astype(np.float64) / _DAY


def _kind(cell: type) -> str:
    if issubclass(cell, bool | np.bool_):
        return "booleans"
    if issubclass(cell, int | float | np.number):
        return "numbers"
    return "text" if issubclass(cell, str) else cell.__name__


def _require_names(names: Sequence[Any]) -> None:
    for name in names:
        if not isinstance(name, str):
            raise DataError(f"column names must be text, got {name!r}; rename it")
    repeated = [name for name in names if list(names).count(name) > 1]
    if repeated:
        raise DataError(f"there are {list(names).count(repeated[0])} columns called {repeated[0]!r}; rename them")
