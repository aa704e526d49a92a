"""What a table's columns hold, inferred from its rows."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import narwhals as nw
import numpy as np
from numpy.typing import NDArray

from ..datasets import DataError
from .cells import cells, plain, table_of
from .columns import Category, CategoryColumn, Column, NumberColumn, Order

__all__ = ["Schema"]

_FEW = 20  # whole numbers of so few values are ordinal categories
_ATOM = 0.05  # of the cells: a number that so many share is no draw of a density
_BEYOND_CHANCE = 10  # rows that share an atom at least
_IDENTIFIERS = 0.5  # of the rows: text of more values than that names rows
_EXCEPTIONS = 1e-3  # share of cells that may be off a column's step
_LARGEST = 1e100
_MOST_DECIMALS = 6
_SINGLE, _DOUBLE = 2.0**-23, 2.0**-50  # rounding of a number, in parts of it
_SURELY_FEW = 50  # values that no table has too many of


@dataclass(frozen=True)
class Schema:
    """Columns in the order of the table.

    Args:
        columns: of different names.
    """

    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Of all columns."""
        return tuple(column.name for column in self.columns)

    @classmethod
    def infer(
        cls,
        frame: Any,
        *,
        nominal: Sequence[str] = (),
        ordinal: Sequence[str] | Mapping[str, Sequence[Category]] = (),
        cyclic: Sequence[str] | Mapping[str, Sequence[Category]] = (),
        numeric: Sequence[str] = (),
        atoms: bool = True,
    ) -> Schema:
        """From the types and values of a frame.

        Text, booleans and categorical types are categories, ordinal where an ordered type says so. Numbers are numbers, but
        whole ones of at most twenty values are ordinal categories, and of two nominal ones. Dates are numbers of days. A
        number that a twentieth of the cells share, and at least ten, is an atom.

        Args:
            frame: of pandas, Polars, PyArrow or whatever else narwhals knows.
            atoms: whether numbers that many cells share have mass of their own. Densities need it; to tell outliers, a value
                is rather near another or far from it.
            nominal, ordinal, cyclic, numeric: names of columns that are so whatever they look like; with their values in
                order where these are not in the order of numbers or of the alphabet.

        Raises:
            DataError: no rows or columns, a name that is unknown, repeated or no text, cells of unlike types in one column, a
                column that is all missing or infinite, text that differs in nearly every row.
        """
        table = table_of(frame)
        orders: dict[str, tuple[Order, Sequence[Category] | None]] = dict.fromkeys(nominal, ("nominal", None))
        kinds: list[tuple[Order, Sequence[str] | Mapping[str, Sequence[Category]]]] = [
            ("ordinal", ordinal),
            ("cyclic", cyclic),
        ]
        for order, given in kinds:
            for name in given:
                orders[name] = (order, given[name] if isinstance(given, Mapping) else None)
        unknown = ({*orders, *numeric}) - set(table.columns)
        if unknown:
            raise DataError(f"there is no column {min(unknown)!r}; the table has {', '.join(table.columns)}")
        columns = tuple(_column(table[name], orders.get(name), name in numeric, atoms) for name in table.columns)
        return cls(columns)

    def with_holes_in(self, other: Schema) -> Schema:
        """The other schema, of the same columns, with missing cells where this one has them."""
        holes = {column.name: column.missing for column in self.columns}
        return Schema(
            tuple(dataclasses.replace(column, missing=column.missing or holes[column.name]) for column in other.columns)
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        kinds = {NumberColumn: "number", CategoryColumn: "category"}
        return {"columns": [{"kind": kinds[type(column)], **dataclasses.asdict(column)} for column in self.columns]}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Schema:
        """From what :meth:`to_dict` gave.

        Raises:
            DataError: it is something else.
        """
        makers: dict[str, Any] = {"number": NumberColumn, "category": CategoryColumn}
        columns = []
        try:
            for entry in given["columns"]:
                settings = dict(entry)
                maker = makers[settings.pop("kind")]
                several = "values" if maker is CategoryColumn else "atoms"
                settings[several] = tuple(settings[several])
                columns.append(maker(**settings))
        except (KeyError, TypeError) as error:
            raise DataError(f"this is no schema of a table: {error}") from None
        return cls(tuple(columns))


def _column(
    series: nw.Series[Any], order: tuple[Order, Sequence[Category] | None] | None, numeric: bool, atoms: bool
) -> Column:
    values, missing = cells(series)
    name, seen = series.name, values[~missing]
    if not len(seen):
        raise DataError(f"column {name!r} has no value in any row; drop it")
    dates = series.dtype.is_temporal()
    numbers = dates or (seen.dtype.kind in "iuf" and not isinstance(series.dtype, nw.Categorical | nw.Enum))
    if numbers and not np.isfinite(seen.astype(float)).all():
        raise DataError(f"column {name!r} has infinite values; make them missing, or clip them")
    if numbers and np.abs(seen.astype(float)).max() > _LARGEST:
        raise DataError(
            f"column {name!r} has numbers beyond {_LARGEST:g}, whose squares overflow; give it another unit"
        )
    whole = numbers and bool((seen == np.floor(seen.astype(float))).all())
    few = whole and not dates and len(np.unique(seen)) <= _FEW
    if numbers and order is None and (numeric or not few):
        return NumberColumn(
            name=name,
            whole=whole,
            dates=dates,
            low=float(seen.min()),
            high=float(seen.max()),
            missing=bool(missing.any()),
            decimals=None if whole else _decimals(seen.astype(float), dates=dates, single=series.dtype == nw.Float32),
            step=_step(seen.astype(float)) if whole and not dates else 1,
            atoms=_atoms(seen.astype(float)) if atoms else (),
        )
    if numeric:
        raise DataError(f"column {name!r} is to be numeric and holds text; make numbers of it")
    distinct = sorted({plain(value) for value in seen})
    kind, given = order or (_inferred_order(series, distinct, few), _given_order(series))
    if given is not None:
        extra = set(distinct) - set(given)
        if extra:
            raise DataError(f"column {name!r} has {min(map(repr, extra))}, which is not among its values")
        distinct = list(given)
    if isinstance(distinct[0], str) and len(distinct) > max(_SURELY_FEW, _IDENTIFIERS * len(values)):
        remedy = "make dates of it, as chainfree.tables.read_file does" if _like_date(distinct[0]) else "drop it"
        raise DataError(
            f"column {name!r} has {len(distinct)} values in {len(values)} rows, as names of rows have; {remedy}"
        )
    return CategoryColumn(name=name, values=tuple(distinct), order=kind, missing=bool(missing.any()))


def _decimals(seen: NDArray[np.float64], *, dates: bool, single: bool) -> int | None:
    """Of numbers, or of the seconds of days."""
    values = seen * 86_400 if dates else seen
    off = np.abs(values) * (_SINGLE if single else _DOUBLE)
    for digits in range(_MOST_DECIMALS + 1):
        if 10 * off.max() > 10.0**-digits:  # what the type keeps says nothing any more
            return None
        if bool((np.abs(values - np.round(values, digits)) <= off).all()):
            return digits
    return None


def _step(seen: NDArray[np.float64]) -> int:
    """Of whole numbers; 1 where floats do not hold them all."""
    if np.abs(seen).max() >= 2.0**53:
        return 1
    values, counts = np.unique(seen, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    most = np.searchsorted(np.cumsum(counts[order]), (1 - _EXCEPTIONS) * len(seen)) + 1
    return max(1, int(np.gcd.reduce(values[order[:most]].astype(np.int64))))


def _atoms(seen: NDArray[np.float64]) -> tuple[float, ...]:
    """Unless they are all there is: a density needs something to be of."""
    values, counts = np.unique(seen, return_counts=True)
    shared = counts >= max(_ATOM * len(seen), _BEYOND_CHANCE)
    return tuple(values[shared].tolist()) if len(values) - shared.sum() > _FEW else ()


def _like_date(text: str) -> bool:
    return bool(re.match(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}", text))


def _inferred_order(series: nw.Series[Any], distinct: Sequence[Category], few: bool) -> Order:
    if few and len(distinct) > 2:
        return "ordinal"
    return "ordinal" if _given_order(series) is not None else "nominal"


def _given_order(series: nw.Series[Any]) -> list[Category] | None:
    """The order of an ordered categorical type, which narwhals calls an enumeration."""
    return [plain(value) for value in series.dtype.categories] if isinstance(series.dtype, nw.Enum) else None
