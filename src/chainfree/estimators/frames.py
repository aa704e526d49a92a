"""Tables in whatever form a user has them, held to scikit-learn's conventions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data

from ..datasets import DataError
from ..tables import Column, Schema
from ..tables.cells import table_of
from .column_types import cast_frame, cast_pandas

__all__ = ["as_pandas", "form_of", "in_form", "infer_schema", "is_frame", "read_table", "take"]


def is_frame(X: Any) -> bool:
    """Whether it is a frame of any library, and not an array or a list.

    pandas' frames without names of columns are arrays with an index, as scikit-learn has it.
    """
    if isinstance(X, pd.DataFrame):
        return any(isinstance(name, str) for name in X.columns)
    return isinstance(nw.from_native(X, eager_only=True, pass_through=True), nw.DataFrame)


def read_table(estimator: BaseEstimator, X: Any, *, reset: bool, least_rows: int = 1) -> Any:
    """A frame: the given one, or pandas' of an array of numbers with columns x0, x1, ...

    Args:
        estimator: whose ``n_features_in_`` and ``feature_names_in_`` are set or held to.
        X: frame, array or list of rows. Cells may be missing.
        reset: whether this is the table to fit.
        least_rows: fewer are refused.

    Raises:
        ValueError: what :func:`sklearn.utils.validation.validate_data` refuses, or another kind of table than was fitted.
    """
    if is_frame(X):
        if not len(X.columns):
            raise DataError("the table has no columns; give at least one")
        table_of(X)  # its own words for names that are repeated or no text
        validate_data(estimator, X, skip_check_array=True, reset=reset)
        if len(X) < least_rows:
            raise DataError(f"the table has {len(X)} rows; give at least {least_rows}")
        return X
    values = validate_data(
        estimator,
        X,
        reset=reset,
        dtype=[np.float64, np.float32],
        ensure_all_finite="allow-nan",
        ensure_min_samples=least_rows,
    )
    names = getattr(estimator, "feature_names_in_", None) if not reset else None
    return pd.DataFrame(values, columns=_places(values.shape[1]) if names is None else names)


def infer_schema(X: Any, frame: Any, *, atoms: bool = True) -> Schema:
    """Of a frame by its types and values; arrays hold numbers."""
    return Schema.infer(frame, numeric=() if is_frame(X) else list(frame.columns), atoms=atoms)


def take(table: Any, places: NDArray[np.int64]) -> Any:
    """The rows at these places."""
    return nw.from_native(table, eager_only=True)[places].to_native()


def as_pandas(table: Any) -> pd.DataFrame:
    """The frame as pandas', or itself."""
    return table if isinstance(table, pd.DataFrame) else nw.from_native(table, eager_only=True).to_pandas()


def form_of(X: Any) -> str:
    """``"array"``, or the name of the frame's library."""
    return nw.from_native(X, eager_only=True).implementation.value if is_frame(X) else "array"


def in_form(table: pd.DataFrame, form: str, types: Mapping[str, str] = {}, columns: Sequence[Column] = ()) -> Any:
    """The table as an array, or as a frame of the named library, in the types of a fitted table where they are given.

    Args:
        table: to be given away.
        form: of :func:`form_of`.
        types: of :func:`chainfree.estimators.column_types.types_of`.
        columns: of the schema.
    """
    if form == "array":
        return table.to_numpy(dtype=np.float64, na_value=np.nan)
    if form == "pandas":
        return cast_pandas(table, types, columns)
    cells: Mapping[str, Any] = {
        name: [None if pd.isna(value) else value for value in table[name].tolist()] for name in table.columns
    }
    backend: Any = form
    return cast_frame(nw.from_dict(cells, backend=backend), types).to_native()


def _places(width: int) -> list[str]:
    return [f"x{place}" for place in range(width)]
