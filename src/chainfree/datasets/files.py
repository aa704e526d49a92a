"""Tables of numbers from files, with every fault found here, named, and given its remedy.

CSV and Parquet are parsed by pyarrow: it refuses ragged rows, damaged gzip streams and bad text instead of guessing,
and keeps repeated column names. Nothing is ever unpickled.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .array_files import array_of_npy, array_of_npz, members
from .arrow_files import arrow_of_csv, arrow_of_parquet, numbers_of
from .errors import DataError
from .wording import closest, listed, one_line

__all__ = ["Table", "read_arrays", "read_table"]

_EXTENSIONS = (".csv", ".csv.gz", ".parquet", ".npy", ".npz")

# float32 ends at 3.4e38; the squares of standardised values and their sums must fit as well
_LARGEST = 1e30


@dataclass(frozen=True, eq=False)
class Table:
    """Named columns of finite numbers.

    Args:
        columns: D different names.
        values: ``(N, D)`` float64, finite, at most 1e30 in size, in the units of the file.

    Raises:
        DataError: repeated names, another shape or type, no rows, missing or infinite or too large values.
    """

    columns: tuple[str, ...]
    values: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.values.dtype != np.float64 or self.values.ndim != 2:
            raise DataError(
                f"a table is a float64 array (N, D), got {self.values.dtype} of shape {self.values.shape}; convert it"
            )
        if self.values.shape[1] != len(self.columns):
            raise DataError(
                f"{len(self.columns)} column names for {self.values.shape[1]} columns; give one name per column"
            )
        _require_distinct(self.columns)
        if not self.columns:
            raise DataError("no columns are left; keep at least one")
        if not len(self.values):
            raise DataError("there are no rows; give a file with at least one row of numbers")
        _require_usable(self.columns, self.values)

    def __len__(self) -> int:
        return len(self.values)


def read_table(
    path: str | os.PathLike[str],
    *,
    key: str | None = None,
    columns: Sequence[str] | None = None,
    drop: Sequence[str] = (),
) -> Table:
    """Read numbers from a ``.csv``, ``.csv.gz``, ``.parquet``, ``.npy`` or ``.npz`` file.

    A CSV file has a header line and commas. An index that pandas stored in a Parquet file is left out, as pandas does.
    Arrays have rows and columns; a 1-d array is refused, because it may be one row or one column. Their columns are
    called ``x0, x1, ...``, or as a text array called ``columns`` beside them in the ``.npz`` file says. Booleans become
    0 and 1.

    Args:
        path: the file; its ending says what it is.
        key: which array of an ``.npz`` file; without it ``x`` or ``X``, or the only array.
        columns: exactly these columns in this order, such as those a model was trained on; without it, all.
        drop: columns to leave out. Faults in columns that are left out do not matter.

    Raises:
        DataError: the file is missing, damaged or of an unknown kind; a name is unknown or repeated; a column is not
            numeric; a value is missing, infinite or above 1e30.
    """
    try:
        kind = _kind(path)
        if key is not None and kind != ".npz":
            raise DataError(f"key={key!r} is for .npz files; leave it out")
        if kind in (".npy", ".npz"):
            names, array = array_of_npy(path) if kind == ".npy" else array_of_npz(path, key)
            wanted = _select(names, columns, drop)
            values = array[:, wanted]
            with np.errstate(over="ignore"):  # a long double beyond float64 becomes infinite, which Table refuses
                numbers = np.ascontiguousarray(values, dtype=np.float64)
        else:
            arrow = arrow_of_csv(path) if kind.startswith(".csv") else arrow_of_parquet(path)
            names = tuple(arrow.column_names)
            wanted = _select(names, columns, drop)
            numbers = np.empty((arrow.num_rows, len(wanted)))
            for place, index in enumerate(wanted):
                numbers[:, place] = numbers_of(names[index], arrow.column(index))
        return Table(tuple(names[index] for index in wanted), numbers)
    except DataError as error:
        raise DataError(f"{os.fspath(path)}: {error}") from error


def read_arrays(path: str | os.PathLike[str], keys: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The arrays of these names in an ``.npz`` file, as they are.

    Raises:
        DataError: the file is missing or damaged, or lacks one of them; the message lists what it has.
    """
    try:
        _require_file(path)
        return members(path, keys)
    except DataError as error:
        raise DataError(f"{os.fspath(path)}: {error}") from error


def _kind(path: str | os.PathLike[str]) -> str:
    name = Path(path).name.lower()
    kind = next((ending for ending in _EXTENSIONS if name.endswith(ending)), None)
    if kind is None:
        raise DataError(f"unknown kind of file {Path(path).suffix!r}; tables are {', '.join(_EXTENSIONS)}")
    _require_file(path)
    return kind


def _require_file(path: str | os.PathLike[str]) -> None:
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError("there is no such file; check the path") from error
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be opened ({one_line(error)}); check the path and its permissions") from error
    if stat.S_ISDIR(status.st_mode):
        raise DataError("is a folder; give one file")
    if not stat.S_ISREG(status.st_mode):
        raise DataError("is not a plain file; copy the data into one")
    if status.st_size == 0:
        raise DataError("the file is empty; write it again")


def _select(names: Sequence[str], columns: Sequence[str] | None, drop: Sequence[str]) -> list[int]:
    """Indices of the columns to read, in order."""
    place = {name: index for index, name in enumerate(names)}
    for option, given in [("columns", columns), ("drop", drop)]:
        if isinstance(given, str):
            raise DataError(f"{option} is the text {given!r}; give a list of names")
        for name in given or ():
            if name not in place:
                raise DataError(f"there is no column {name!r}{closest(name, names)}; there are {listed(names)}")
    dropped = set(drop)
    if columns is not None:
        both = [name for name in columns if name in dropped]
        if both:
            raise DataError(f"column {both[0]!r} is both wanted and dropped; take it out of one of the two")
        _require_distinct(columns)
        chosen = set(columns)
        _require_distinct([name for name in names if name in chosen])
        return [place[name] for name in columns]
    left = [index for index, name in enumerate(names) if name not in dropped]
    _require_distinct([names[i] for i in left])
    if not left:
        raise DataError("no columns are left; keep at least one")
    return left


def _require_distinct(names: Sequence[str]) -> None:
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise DataError(f"column name {repeated[0]!r} is there more than once; rename or remove one of them")


def _require_usable(columns: Sequence[str], values: NDArray[np.float64]) -> None:
    # a column at a time: no second array of the table's size; NaN compares false, so one pass clears a good column
    for name, column in zip(columns, values.T, strict=True):
        if bool((np.abs(column) <= _LARGEST).all()):
            continue
        for bad, what, remedy in [
            (np.isnan(column), "missing values", "fill them, drop these rows, or leave it out with --drop"),
            (np.isinf(column), "infinite values", "replace them, drop these rows, or leave it out with --drop"),
            (np.abs(column) > _LARGEST, f"values above {_LARGEST:g}", "rescale it, for example take logarithms"),
        ]:
            if bad.any():
                raise DataError(
                    f"column {name!r} has {what} in {int(bad.sum())} of {len(column)} rows, first in row "
                    f"{int(bad.argmax())} (counted from 0); {remedy}"
                )
