"""Rows of a table as tensors of numbers and codes, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import narwhals as nw
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.preprocessing import QuantileTransformer, StandardScaler
from torch import Tensor

from ..checks import require_positive
from ..datasets import DataError
from ..perturbations import Gaussian, Mixed, OrderedHeatKernel, Perturbation, UniformHeatKernel
from .cells import cells, plain, table_of
from .columns import CategoryColumn, NumberColumn
from .schema import Schema

__all__ = ["EncodedColumn", "Report", "Scaling", "TableEncoder"]

Scaling = Literal["standard", "quantile"]

_QUANTILES = 1000
_EPOCH = np.datetime64("1970-01-01T00:00:00", "us")


@dataclass(frozen=True)
class EncodedColumn:
    """A column of the tensors.

    Args:
        name: of the table's column.
        size: number of codes, or ``None`` for a number.
        order: of the codes.
        is_state: whether the codes say if the number of the same name is there (0) or missing (1).
    """

    name: str
    size: int | None = None
    order: Literal["nominal", "ordinal", "cyclic"] = "nominal"
    is_state: bool = False


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
    r"""Numbers scaled, categories as codes, missing cells as a state of their own; the way back is exact.

    A number that may be missing has two columns: its value, and a state that says whether it is there. Where it is missing
    the value is a draw from the standard normal, so a model knows its density there: add :math:`v^2/2` to an energy that
    does not look at it, and nothing is assumed about cells that nobody has seen. A missing category is a code of its own.

    Args:
        schema: of the table.
        scaling: ``"standard"`` for mean 0 and variance 1, ``"quantile"`` for ranks as quantiles of the standard normal.
        reserve: keep states for what the fitted rows do not have: missing cells in complete columns, unseen categories. A
            model that contrasts rows with perturbed ones then learns that they are unlikely. Without it they are refused.

    Attributes:
        columns: of the tensors, in their order.
        report: of the last table that was encoded.
    """

    def __init__(self, schema: Schema, *, scaling: Scaling = "quantile", reserve: bool = False) -> None:
        if scaling not in ("standard", "quantile"):
            raise ValueError(f"scaling must be 'standard' or 'quantile', got {scaling!r}")
        self.schema = schema
        self.scaling: Scaling = scaling
        self.reserve = reserve
        self.columns = tuple(self._encoded())
        self.report = Report({}, {}, {})
        self._scaler: Any = None

    @property
    def sizes(self) -> list[int | None]:
        """Number of codes of every column, ``None`` for numbers: what :class:`chainfree.energies.TabularMLP` takes."""
        return [column.size for column in self.columns]

    @property
    def states(self) -> dict[int, int]:
        """Places of the numbers that may be missing, and of the columns that say whether they are."""
        return {place - 1: place for place, column in enumerate(self.columns) if column.is_state}

    def perturbation(self, *, noise: float = 0.1, time: float = 1.0) -> Mixed:
        r"""For energy discrepancy: noise on numbers, on codes the heat kernels of their order.

        Args:
            noise: standard deviation, in units of the scaled numbers.
            time: a code without order stays with probability :math:`e^{-time}`. Ordered ones diffuse until their slowest
                frequency has fallen to the same, so that the kernels see as far whatever the number of values.

        Raises:
            ValueError: a setting that is not above 0, or no column that could change.
        """
        require_positive("noise", noise)
        require_positive("time", time)
        numbers = [place for place, column in enumerate(self.columns) if column.size is None]
        parts: list[tuple[Sequence[int], Perturbation]] = [(numbers, Gaussian(t=noise**2))] if numbers else []
        nominal = {
            place: column.size
            for place, column in enumerate(self.columns)
            if column.size is not None and column.size > 1 and column.order == "nominal"
        }
        if nominal:
            parts.append((list(nominal), UniformHeatKernel(categories=tuple(nominal.values()), t=time)))
        for place, column in enumerate(self.columns):
            if column.size is not None and column.size > 1 and column.order != "nominal":
                turns = 1 if column.order == "ordinal" else 2
                slowest = 2 - 2 * math.cos(turns * math.pi / column.size)
                kernel = OrderedHeatKernel(categories=column.size, order=column.order, t=time / slowest)
                parts.append(([place], kernel))
        if not parts:
            raise ValueError("no column of this table can change; a density of it says nothing")
        return Mixed(parts=parts, width=len(self.columns))

    def fit(self, frame: Any) -> TableEncoder:
        """Learn the scales of the numbers.

        Raises:
            DataError: columns of the schema are not there, or their cells are of another kind.
        """
        table = self._table(frame)
        numbers = self._numbers(table, None)
        if numbers.shape[1]:
            self._scaler = _scaler(self.scaling, len(numbers)).fit(numbers)
        return self

    def encode(self, frame: Any, *, dequantise: torch.Generator | None = None) -> Tensor:
        """``(N, D)``, float32.

        Args:
            frame: with the schema's columns, in any order; others are left out.
            dequantise: source of the uniform noise that spreads whole numbers over the unit around them, for training: a
                density of numbers would else be without bounds. ``None`` leaves them as they are, for scores.

        Raises:
            DataError: as :meth:`fit`; or, without ``reserve``, unseen categories and missing cells of complete columns.
        """
        table = self._table(frame)
        numbers = self._numbers(table, dequantise)
        if numbers.shape[1] and self._scaler is None:
            raise DataError("the encoder is not fitted; call fit first")
        values = self._scaler.transform(numbers) if numbers.shape[1] else numbers
        filler = torch.Generator().manual_seed(0)
        drawn = torch.randn(values.shape, generator=filler, dtype=torch.float64).numpy()
        gone = np.isnan(values)
        values = np.where(gone, drawn, values)
        unseen: dict[str, int] = {}
        outside: dict[str, int] = {}
        new: dict[str, int] = {}
        parts: list[NDArray[Any]] = []
        place = 0
        for column in self.schema.columns:
            if isinstance(column, NumberColumn):
                raw = numbers[:, place]
                spread = 0.5 if column.whole else 0.0
                beyond = (raw < column.low - spread) | (raw > column.high + spread)
                self._note(outside, column.name, int(beyond.sum()))
                parts.append(values[:, place])
                if column.missing or self.reserve:
                    parts.append(gone[:, place])
                if not column.missing:
                    self._note(new, column.name, int(gone[:, place].sum()))
                place += 1
            else:
                codes, strange, absent = self._codes(table, column)
                parts.append(codes)
                self._note(unseen, column.name, strange)
                if not column.missing:
                    self._note(new, column.name, absent)
        self.report = Report(unseen, outside, new)
        if not self.reserve and (unseen or new):
            self._refuse(unseen, new)
        return torch.from_numpy(np.stack(parts, axis=1).astype(np.float32))

    def decode(self, rows: Tensor) -> Any:
        """A pandas frame of rows ``(N, D)``: whole numbers rounded, dates as dates, categories as they were.

        Codes of unseen categories come back as missing.
        """
        import pandas as pd

        array = rows.detach().cpu().double().numpy()
        numeric = [place for place, column in enumerate(self.columns) if column.size is None]
        numbers = self._scaler.inverse_transform(array[:, numeric]) if numeric else array[:, []]
        frame: dict[str, Any] = {}
        place = number = 0
        for column in self.schema.columns:
            if isinstance(column, NumberColumn):
                values, gone = numbers[:, number], np.zeros(len(array), dtype=bool)
                place, number = place + 1, number + 1
                if column.missing or self.reserve:
                    gone = array[:, place] == 1
                    place += 1
                frame[column.name] = _number_series(column, values, gone)
            else:
                codes = array[:, place].astype(int)
                known = [*column.values, *[None] * 2]
                cells = [known[code] for code in codes]
                place += 1
                if column.order == "ordinal" and isinstance(column.values[0], str):
                    frame[column.name] = pd.Categorical(cells, categories=list(column.values), ordered=True)
                else:
                    frame[column.name] = pd.Series(cells, dtype=_dtype(column, cells))
        return pd.DataFrame(frame)

    @property
    def log_scale(self) -> float:
        """What a log-density of the tensors' numbers is above that of the table's in nats, summed over the numbers.

        Raises:
            ValueError: scaling is by quantiles, where it depends on the row.
        """
        if self.scaling != "standard":
            raise ValueError("by quantiles it depends on the row; use standard scaling for densities")
        return float(np.log(self._scaler.scale_).sum()) if self._scaler is not None else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        learned = (
            {} if self._scaler is None else {name: getattr(self._scaler, name).tolist() for name in self._learned()}
        )
        return {"schema": self.schema.to_dict(), "scaling": self.scaling, "reserve": self.reserve, "learned": learned}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> TableEncoder:
        """From what :meth:`to_dict` gave."""
        encoder = cls(Schema.from_dict(given["schema"]), scaling=given["scaling"], reserve=given["reserve"])
        if given["learned"]:
            scaler = _scaler(encoder.scaling, _QUANTILES)
            for name, values in given["learned"].items():
                setattr(scaler, name, np.asarray(values))
            if encoder.scaling == "quantile":
                scaler.n_quantiles_ = len(scaler.references_)
            scaler.n_features_in_ = sum(isinstance(c, NumberColumn) for c in encoder.schema.columns)
            encoder._scaler = scaler
        return encoder

    def _learned(self) -> Sequence[str]:
        return ("mean_", "scale_", "var_") if self.scaling == "standard" else ("quantiles_", "references_")

    def _encoded(self) -> list[EncodedColumn]:
        encoded = []
        for column in self.schema.columns:
            if isinstance(column, NumberColumn):
                encoded.append(EncodedColumn(column.name))
                if column.missing or self.reserve:
                    encoded.append(EncodedColumn(column.name, 2, is_state=True))
            else:
                size = len(column.values) + (column.missing or self.reserve) + self.reserve
                # states for what is not there have no place in an order
                order = column.order if size == len(column.values) else "nominal"
                encoded.append(EncodedColumn(column.name, size, order))
        return encoded

    def _table(self, frame: Any) -> nw.DataFrame[Any]:
        table = table_of(frame)
        lacking = [name for name in self.schema.names if name not in table.columns]
        if lacking:
            raise DataError(f"the table has no column {lacking[0]!r}; it has {', '.join(table.columns)}")
        return table

    def _numbers(self, table: nw.DataFrame[Any], source: torch.Generator | None) -> NDArray[np.float64]:
        """``(N, numbers)``, NaN where missing."""
        found = []
        for column in self.schema.columns:
            if not isinstance(column, NumberColumn):
                continue
            values, missing = cells(table[column.name])
            if values.dtype == object:
                if not missing.all():
                    raise DataError(f"column {column.name!r} held numbers and holds text now; give the same columns")
                values = np.zeros(len(values))
            numbers = np.where(missing, np.nan, values.astype(np.float64))
            if np.isinf(numbers).any():
                raise DataError(f"column {column.name!r} has infinite values; make them missing, or clip them")
            if column.whole and source is not None:
                numbers = numbers + torch.rand(len(numbers), generator=source, dtype=torch.float64).numpy() - 0.5
            found.append(numbers)
        return np.stack(found, axis=1) if found else np.zeros((len(table), 0))

    def _codes(self, table: nw.DataFrame[Any], column: CategoryColumn) -> tuple[NDArray[np.int64], int, int]:
        """Codes, and how many were unseen and missing."""
        values, missing = cells(table[column.name])
        known = {(type(value) is bool, value): code for code, value in enumerate(column.values)}
        absent = len(column.values)
        strange = absent + 1
        cell_of = [plain(value) for value in values]
        codes = np.array([known.get((type(cell) is bool, cell), strange) for cell in cell_of], dtype=np.int64)
        codes[missing] = absent
        return codes, int((codes == strange).sum()), int(missing.sum())

    def _refuse(self, unseen: Mapping[str, int], new: Mapping[str, int]) -> None:
        name, count = next(iter((unseen or new).items()))
        what = "categories that it did not have" if unseen else "missing cells and had none"
        raise DataError(
            f"column {name!r} has {what} ({count} rows); keep a state for them with reserve=True, or drop the rows"
        )

    @staticmethod
    def _note(counts: dict[str, int], name: str, count: int) -> None:
        if count:
            counts[name] = count


def _scaler(scaling: Scaling, rows: int) -> Any:
    if scaling == "standard":
        return StandardScaler()
    return QuantileTransformer(n_quantiles=min(_QUANTILES, rows), output_distribution="normal", subsample=None)


def _number_series(column: NumberColumn, values: NDArray[np.float64], gone: NDArray[np.bool_]) -> Any:
    import pandas as pd

    if column.dates:
        micro = np.round(values * 86_400e6).astype(np.int64)
        dates = pd.Series(_EPOCH + micro.astype("timedelta64[us]"))
        return dates.mask(gone)
    if column.whole:
        whole = pd.Series(np.round(values).astype(np.int64))
        return whole.astype("Int64").mask(gone) if gone.any() else whole
    return pd.Series(np.where(gone, np.nan, values))


def _dtype(column: CategoryColumn, cells: Sequence[Any]) -> Any:
    if None in cells:
        return {bool: "boolean", int: "Int64", float: "float64"}.get(type(column.values[0]), object)
    return {bool: bool, int: "int64", float: "float64"}.get(type(column.values[0]), object)
