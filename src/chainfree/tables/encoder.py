"""Rows of a table as tensors of numbers and codes, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import narwhals as nw
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..datasets import DataError
from ..perturbations import Mixed
from .cells import cells, codes_of, table_of
from .columns import CategoryColumn, NumberColumn, Order
from .encoded import EncodedColumn, perturbation_of
from .given import given_code, given_state
from .scaling import NumberScaler, Scaling
from .schema import Schema
from .series import category_series, number_series

__all__ = ["Report", "TableEncoder"]


class Report(NamedTuple):
    """What was unlike the rows that the encoder was fitted to: numbers of cells by column, none of them 0.

    Args:
        unseen: categories that were not there.
        outside: numbers below the least or above the greatest.
        missing: missing cells of columns that had none.
    """

    unseen: dict[str, int]
    outside: dict[str, int]
    missing: dict[str, int]


class TableEncoder:
    r"""Numbers scaled, categories as codes, missing cells as a state of their own; and back, to seven digits.

    A number that may be missing, or that has atoms, has two columns: its value, and a state that says which it is. Where it
    is missing or at an atom the value is hidden: a draw from the standard normal, so a model knows its density there. Add
    :math:`v^2/2` to an energy that does not look at it, and nothing is assumed about cells that nobody has seen. A missing
    category is a code of its own.

    Args:
        schema: of the table.
        scaling: of the numbers, ``"standard"``, ``"bent"`` or ``"quantile"``: see :class:`NumberScaler`.
        reserve: keep codes of every column of categories for what the fitted rows do not have: missing cells, unseen
            categories. Nothing is learned of them, so a model has to say itself how likely they are, as
            :func:`chainfree.fitting.fit_tabular_mixture` does. Without them such cells are refused, as missing numbers of
            complete columns always are.

    Attributes:
        columns: of the tensors, in their order.
        report: of the last table that was encoded.
    """

    def __init__(self, schema: Schema, *, scaling: Scaling = "quantile", reserve: bool = False) -> None:
        self._scaler = NumberScaler(scaling)
        self.schema = schema
        self.scaling: Scaling = scaling
        self.reserve = reserve
        self.columns = tuple(self._encoded())
        self.report = Report({}, {}, {})

    @property
    def sizes(self) -> list[int | None]:
        """Number of codes of every column, ``None`` for numbers: what :class:`chainfree.energies.TabularMLP` takes."""
        return [column.size for column in self.columns]

    @property
    def states(self) -> dict[int, int]:
        """Places of the numbers that may be hidden, and of the columns that say whether they are."""
        return {place - 1: place for place, column in enumerate(self.columns) if column.is_state}

    @property
    def reserved(self) -> dict[int, int]:
        """How many of the last codes no fitted row has, by place."""
        return {place: column.reserved for place, column in enumerate(self.columns) if column.reserved}

    def places(self, name: str) -> list[int]:
        """Of the tensors' columns that a table's column has."""
        return [place for place, column in enumerate(self.columns) if column.name == name]

    def perturbation(self, *, noise: float = 0.1, time: float = 1.0) -> Mixed:
        r"""For energy discrepancy: noise on numbers, on codes the heat kernels of their order.

        Args:
            noise: standard deviation, in units of the scaled numbers.
            time: a code without order stays with probability :math:`e^{-time}`. Ordered ones diffuse until their slowest
                frequency has fallen to the same, so that the kernels see as far whatever the number of values.

        Raises:
            ValueError: a setting that is not above 0, or no column that could change.
        """
        return perturbation_of(self.columns, noise=noise, time=time)

    def fit(self, frame: Any) -> TableEncoder:
        """Learn the scales of the numbers.

        Raises:
            DataError: columns of the schema are not there, or their cells are of another kind.
        """
        table = self._table(frame)
        numbers, _ = self._numbers(table, None)
        if numbers.shape[1]:
            self._scaler.fit(numbers)
        return self

    def encode(self, frame: Any, *, generator: torch.Generator | None = None) -> Tensor:
        """``(N, D)``, float32.

        Args:
            frame: with the schema's columns, in any order; others are left out.
            generator: source of what training needs: hidden values, and the uniform noise that spreads whole numbers over the
                unit around them, since a density of numbers would else be without bounds. ``None`` leaves whole numbers as
                they are and makes hidden values 0, for scores.

        Raises:
            DataError: as :meth:`fit`; missing numbers of complete columns; without ``reserve`` also unseen categories and
                missing cells of complete columns of categories.
        """
        table = self._table(frame)
        numbers, states = self._numbers(table, generator)
        if numbers.shape[1] and not self._scaler.is_fitted:
            raise DataError("the encoder is not fitted; call fit first")
        values = self._scaler.transform(numbers) if numbers.shape[1] else numbers
        hidden = np.isnan(values)
        if generator is None:
            values = np.where(hidden, 0.0, values)
        else:
            drawn = torch.randn(values.shape, generator=generator, dtype=torch.float64).numpy()
            values = np.where(hidden, drawn, values)
        unseen: dict[str, int] = {}
        outside: dict[str, int] = {}
        new: dict[str, int] = {}
        parts: list[NDArray[Any]] = []
        place = 0
        for column in self.schema.columns:
            if isinstance(column, NumberColumn):
                raw, state = numbers[:, place], states[:, place]
                spread = 0.5 if column.whole else 0.0
                with np.errstate(invalid="ignore"):  # hidden ones are neither
                    beyond = (raw < column.low - spread) | (raw > column.high + spread)
                _note(outside, column.name, int(beyond.sum()))
                parts.append(values[:, place])
                if self._number_states(column) > 1:
                    parts.append(state)
                if not column.missing:
                    _note(new, column.name, int((state > len(column.atoms)).sum()))
                place += 1
            else:
                codes = codes_of(table[column.name], column.values)
                parts.append(codes)
                _note(unseen, column.name, int((codes > len(column.values)).sum()))
                if not column.missing:
                    _note(new, column.name, int((codes == len(column.values)).sum()))
        self.report = Report(unseen, outside, new)
        self._refuse_unless_reserved(unseen, new)
        return torch.from_numpy(np.stack(parts, axis=1).astype(np.float32))

    def encode_given(self, given: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """One row of which some columns are known, and which cells these are, both ``(1, D)``.

        Args:
            given: values by name of the column; ``None``, NaN, NA and NaT are missing cells. Other columns are 0 in the row.

        Raises:
            DataError: a column that is not there, a value that it cannot have, or a missing cell where there was none.
        """
        unknown = sorted(set(given) - set(self.schema.names))
        if unknown:
            raise DataError(f"there is no column {unknown[0]!r}; the table has {', '.join(self.schema.names)}")
        numeric = [column for column in self.schema.columns if isinstance(column, NumberColumn)]
        row, fixed = torch.zeros(1, len(self.columns)), torch.zeros(1, len(self.columns), dtype=torch.bool)
        place = 0
        for column in self.schema.columns:
            width = 2 if isinstance(column, NumberColumn) and self._number_states(column) > 1 else 1
            if column.name in given:
                fixed[:, place : place + width] = True
                value = given[column.name]
                if isinstance(column, CategoryColumn):
                    row[0, place] = given_code(column, value)
                else:
                    state, number = given_state(column, value)
                    if state == 0:
                        numbers = np.full((1, len(numeric)), np.nan)
                        numbers[0, numeric.index(column)] = number
                        row[0, place] = self._scaler.transform(numbers)[0, numeric.index(column)]
                    elif width > 1:
                        row[0, place + 1] = state
            place += width
        return row, fixed

    def decode(self, rows: Tensor, *, within: bool = False) -> Any:
        """A pandas frame of rows ``(N, D)``: whole numbers rounded, dates as dates, categories as they were.

        Codes of unseen categories come back as missing.

        Args:
            rows: encoded.
            within: whether numbers beyond the least and the greatest that were seen become these.
        """
        import pandas as pd

        numbers = self.decode_numbers(rows, within=within)
        frame: dict[str, Any] = {}
        for column in self.schema.columns:
            if isinstance(column, NumberColumn):
                frame[column.name] = number_series(column, numbers[column.name])
            else:
                codes = rows[:, self.places(column.name)[0]].detach().cpu().long()
                frame[column.name] = category_series(column, codes.numpy())
        return pd.DataFrame(frame)

    def decode_numbers(self, rows: Tensor, *, within: bool = False) -> dict[str, NDArray[np.float64]]:
        """Numbers of rows ``(N, D)`` in the table's units by column, ``(N,)``; NaN where missing, dates in days.

        Args:
            rows, within: as for :meth:`decode`.
        """
        array = rows.detach().cpu().double().numpy()
        numeric = [place for place, column in enumerate(self.columns) if column.size is None]
        numbers = self._scaler.inverse(array[:, numeric]) if numeric else array[:, []]
        found = {}
        columns = [column for column in self.schema.columns if isinstance(column, NumberColumn)]
        for column, shown in zip(columns, numbers.T, strict=True):
            found[column.name] = shown.clip(column.low, column.high) if within else shown.copy()
            if self._number_states(column) > 1:
                states = array[:, self.places(column.name)[1]].astype(int)
                of_states = np.array([np.nan, *column.atoms, np.nan])  # the first is never taken
                found[column.name][states > 0] = of_states[states[states > 0]]
        return found

    def hidden(self, rows: Tensor) -> Tensor:
        """Which numbers of the rows ``(N, D)`` are missing or at an atom, ``(N, numbers that may be)``."""
        return rows[:, list(self.states.values())] != 0

    def log_abs_det(self, rows: Tensor) -> Tensor:
        """What a log-density of the table's numbers is above that of the rows ``(N, D)``, in nats, ``(N,)``.

        Raises:
            ValueError: scaling is by quantiles, which have no slope.
        """
        numeric = [place for place, column in enumerate(self.columns) if column.size is None]
        if not numeric:
            return rows.new_zeros(len(rows))
        slopes = torch.from_numpy(self._scaler.log_slopes(rows[:, numeric].double().numpy())).to(rows)
        hideable = [numeric.index(place) for place in self.states]
        slopes[:, hideable] = torch.where(self.hidden(rows), 0.0, slopes[:, hideable])
        return slopes.sum(1)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "schema": self.schema.to_dict(),
            "scaling": self.scaling,
            "reserve": self.reserve,
            "learned": self._scaler.to_dict(),
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> TableEncoder:
        """From what :meth:`to_dict` gave."""
        encoder = cls(Schema.from_dict(given["schema"]), scaling=given["scaling"], reserve=given["reserve"])
        encoder._scaler.load(given["learned"])
        return encoder

    def _encoded(self) -> list[EncodedColumn]:
        encoded = []
        for column in self.schema.columns:
            if isinstance(column, NumberColumn):
                encoded.append(EncodedColumn(column.name))
                states = self._number_states(column)
                if states > 1:
                    encoded.append(EncodedColumn(column.name, states, is_state=True))
            else:
                seen = len(column.values) + column.missing
                reserved = (1 if column.missing else 2) if self.reserve else 0
                # what is missing has no place in an order
                order: Order = "nominal" if column.missing else column.order
                encoded.append(EncodedColumn(column.name, seen + reserved, order, reserved=reserved))
        return encoded

    def _number_states(self, column: NumberColumn) -> int:
        return 1 + len(column.atoms) + column.missing

    def _table(self, frame: Any) -> nw.DataFrame[Any]:
        table = table_of(frame)
        lacking = [name for name in self.schema.names if name not in table.columns]
        if lacking:
            raise DataError(f"the table has no column {lacking[0]!r}; it has {', '.join(table.columns)}")
        return table

    def _numbers(
        self, table: nw.DataFrame[Any], source: torch.Generator | None
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """``(N, numbers)``, NaN where hidden, and their states."""
        found, found_states = [], []
        for column in self.schema.columns:
            if not isinstance(column, NumberColumn):
                continue
            values, missing = cells(table[column.name])
            if values.dtype == object:
                if not missing.all():
                    held = (
                        "dates and holds text now; make dates of it" if column.dates else "numbers and holds text now"
                    )
                    raise DataError(f"column {column.name!r} held {held}, as chainfree.tables.read_file does")
                values = np.zeros(len(values))
            numbers = np.where(missing, np.nan, values.astype(np.float64))
            if np.isinf(numbers).any():
                raise DataError(f"column {column.name!r} has infinite values; make them missing, or clip them")
            states = np.where(missing, 1 + len(column.atoms), 0)
            for state, atom in enumerate(column.atoms, start=1):
                states[numbers == atom] = state
            numbers[states > 0] = np.nan
            if column.whole and source is not None:
                numbers = numbers + torch.rand(len(numbers), generator=source, dtype=torch.float64).numpy() - 0.5
            found.append(numbers)
            found_states.append(states)
        if not found:
            return np.zeros((len(table), 0)), np.zeros((len(table), 0), dtype=np.int64)
        return np.stack(found, axis=1), np.stack(found_states, axis=1)

    def _refuse_unless_reserved(self, unseen: Mapping[str, int], new: Mapping[str, int]) -> None:
        categories = {column.name for column in self.schema.columns if isinstance(column, CategoryColumn)}
        for counts, what in ((unseen, "categories that it did not have"), (new, "missing cells and had none")):
            for name, count in counts.items():
                if name not in categories:
                    raise DataError(
                        f"column {name!r} has {what} ({count} rows); fill them, drop the rows, or fit with the schema of a "
                        "table that has such cells, schema=Schema.infer(TABLE)"
                    )
                if not self.reserve:
                    raise DataError(
                        f"column {name!r} has {what} ({count} rows); keep a code for them with reserve=True, or drop the rows"
                    )


def _note(counts: dict[str, int], name: str, count: int) -> None:
    if count:
        counts[name] = count
