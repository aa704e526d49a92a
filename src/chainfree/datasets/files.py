"""Tables of numbers from files, with every fault found here, named, and given its remedy.

CSV and Parquet are parsed by pyarrow: it refuses ragged rows, damaged gzip streams and bad text instead of guessing,
and keeps repeated column names. Nothing is ever unpickled.
"""

from __future__ import annotations

import difflib
import os
import stat
import tokenize
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import DataError

__all__ = ["Table", "read_arrays", "read_table"]

_EXTENSIONS = (".csv", ".csv.gz", ".parquet", ".npy", ".npz")

# float32 ends at 3.4e38; the squares of standardised values and their sums must fit as well
_LARGEST = 1e30

# what numpy and zipfile raise on damaged files: wrong magic, bad headers, short bodies, absurd sizes, encrypted members
_DAMAGE = (
    OSError,
    ValueError,
    TypeError,
    SyntaxError,
    EOFError,
    LookupError,
    OverflowError,
    MemoryError,
    RuntimeError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


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
            names, array = _npy(path) if kind == ".npy" else _npz(path, key)
            wanted = _select(names, columns, drop)
            values = array[:, wanted]
            with np.errstate(over="ignore"):  # a long double beyond float64 becomes infinite, which Table refuses
                numbers = np.ascontiguousarray(values, dtype=np.float64)
        else:
            arrow = _csv(path) if kind.startswith(".csv") else _parquet(path)
            names = tuple(arrow.column_names)
            wanted = _select(names, columns, drop)
            numbers = np.empty((arrow.num_rows, len(wanted)))
            for place, index in enumerate(wanted):
                numbers[:, place] = _arrow_column(names[index], arrow.column(index))
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
        return _members(path, keys)
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
        raise DataError(f"cannot be opened ({_line(error)}); check the path and its permissions") from error
    if stat.S_ISDIR(status.st_mode):
        raise DataError("is a folder; give one file")
    if not stat.S_ISREG(status.st_mode):
        raise DataError("is not a plain file; copy the data into one")
    if status.st_size == 0:
        raise DataError("the file is empty; write it again")


def _line(error: BaseException) -> str:
    """A library's message on one line, cut where it runs on."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."


# Arrays


def _npy(path: str | os.PathLike[str]) -> tuple[tuple[str, ...], NDArray[Any]]:
    try:
        # opened here: numpy leaves the file open when it fails
        with open(path, "rb") as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
            if file.read(1):
                raise ValueError("there are bytes after the array's end")
    except _DAMAGE as error:
        raise DataError(
            f"cannot be read as .npy ({_line(error)}); save plain numbers with numpy.save(path, x)"
        ) from error
    return _default_names(_require_matrix("the array", array)), array


def _npz(path: str | os.PathLike[str], key: str | None) -> tuple[tuple[str, ...], NDArray[Any]]:
    keys = _keys(path)
    if key is None:
        usual = [name for name in ("x", "X") if name in keys]
        if len(usual) == 1:
            key = usual[0]
        elif len(keys) == 1:
            key = keys[0]
        else:
            raise DataError(f"which array is the table is not clear; give key as one of {_listed(keys)}")
    named = "columns" in keys and key != "columns"
    arrays = _members(path, [key, "columns"] if named else [key])
    array = _require_matrix(f"array {key!r}", arrays[key])
    if not named:
        return _default_names(array), array
    names = arrays["columns"]
    if names.dtype.kind != "U" or names.shape != (array.shape[1],):
        raise DataError(
            f"array 'columns' is {names.dtype} of shape {names.shape}, not {array.shape[1]} names as text; "
            f"save numpy.array(names, dtype=str), or leave it out"
        )
    return tuple(names.tolist()), array


def _keys(path: str | os.PathLike[str]) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
    except _DAMAGE as error:
        raise _bad_npz(error) from error


def _members(path: str | os.PathLike[str], keys: Sequence[str]) -> dict[str, NDArray[Any]]:
    there = _keys(path)
    for key in keys:
        if key not in there:
            raise DataError(f"has no array {key!r}{_close(key, there)}; it has {_listed(there)}")
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for key in keys:
                with archive.open(key + ".npy") as member:
                    arrays[key] = np.lib.format.read_array(member, allow_pickle=False)
                    # reading to the end makes zipfile compare the checksum
                    if member.read(1):
                        raise ValueError(f"array {key!r} has bytes after its end")
    except _DAMAGE as error:
        raise _bad_npz(error) from error
    return arrays


def _bad_npz(error: BaseException) -> DataError:
    return DataError(f"cannot be read as .npz ({_line(error)}); save plain numbers with numpy.savez(path, x=x)")


def _require_matrix(name: str, array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind not in "biuf":
        what = "complex numbers" if array.dtype.kind == "c" else f"{array.dtype}".split("[")[0]
        raise DataError(f"{name} holds {what}, not real numbers; save it as float64")
    if array.ndim == 1:
        raise DataError(
            f"{name} is 1-d with {len(array)} values; save x.reshape(-1, 1) for a column, or x.reshape(1, -1) for a row"
        )
    if array.ndim != 2:
        remedy = "save x.reshape(len(x), -1)" if array.ndim > 2 else "save rows and columns"
        raise DataError(f"{name} has shape {array.shape}, but a table has rows and columns; {remedy}")
    return array


def _default_names(array: NDArray[Any]) -> tuple[str, ...]:
    return tuple(f"x{i}" for i in range(array.shape[1]))


# CSV and Parquet


def _csv(path: str | os.PathLike[str]) -> Any:
    try:
        import pyarrow as pa  # type: ignore[import-untyped,unused-ignore]
        from pyarrow import csv
    except ImportError as error:
        raise _no_pyarrow() from error
    # one row must fit a block; quoted line breaks cost parallel parsing but are common in text columns to be dropped
    reading = csv.ReadOptions(block_size=1 << 24)
    parsing = csv.ParseOptions(newlines_in_values=True)
    try:
        table = csv.read_csv(os.fspath(path), read_options=reading, parse_options=parsing)
        names = table.column_names  # decoded here, so bad text in the header shows here
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(
            f"cannot be read as CSV ({_line(error)}); write UTF-8 text with a header line, commas, and as many cells "
            "in every row"
        ) from error
    _require_header(names)
    return table


def _require_header(names: list[str]) -> None:
    if "" in names:
        raise DataError(
            f"column {names.index('') + 1} has no name; name it in the header line (pandas: to_csv(path, index=False))"
        )
    if len(names) == 1 and (";" in names[0] or "\t" in names[0]):
        raise DataError(f"the only column is called {names[0]!r}; separate the cells with commas")
    # a header 0, 1, 2, ... is what pandas writes for an array; other numbers are a row that would be lost as names
    if all(_is_number(name) for name in names) and names != [str(i) for i in range(len(names))]:
        raise DataError(f"the first line is numbers ({names[0]}, ...), not column names; add a header line")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _parquet(path: str | os.PathLike[str]) -> Any:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise _no_pyarrow() from error
    try:
        # not parquet.read_table, which takes folders, globs and addresses as well
        with open(path, "rb") as file:
            table = parquet.ParquetFile(file, page_checksum_verification=True).read()
            metadata = table.schema.pandas_metadata
            names = table.column_names
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"cannot be read as Parquet ({_line(error)}); write the file again") from error
    stored = metadata.get("index_columns") if isinstance(metadata, dict) else None
    # row labels, not data: a name per stored index, a dict for a plain range, which is not stored
    index = {name for name in stored if isinstance(name, str)} if isinstance(stored, list) else set()
    return table.select([i for i, name in enumerate(names) if name not in index])


def _no_pyarrow() -> DataError:
    return DataError("CSV and Parquet need pyarrow; pip install 'chainfree[tables]'")


def _arrow_column(name: str, column: Any) -> NDArray[np.float64]:
    """One column as float64, with NaN where a cell is missing."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        column = pa.chunked_array([chunk.dictionary_decode() for chunk in column.chunks], type=kind.value_type)
        kind = kind.value_type
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan)
    if pa.types.is_boolean(kind):
        column = column.cast(pa.uint8())
    elif pa.types.is_decimal(kind):
        column = column.cast(pa.float64())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise DataError(
            f"column {name!r} is not numeric but {kind}, for example {_example(column)}; leave it out with "
            "--drop, or encode it as numbers"
        )
    numbers: NDArray[np.float64] = column.to_numpy().astype(np.float64)
    return numbers


def _example(column: Any) -> str:
    """A value that is no number: in a column of numbers with a few words, a word."""
    try:
        head = column.slice(0, 100_000).to_pylist()
    except (ValueError, OverflowError) as error:  # text that is not UTF-8, times that Python has no type for
        return f"one that cannot be shown ({_line(error)})"
    found = next((v for v in head if v is not None and not (isinstance(v, str) and (not v or _is_number(v)))), None)
    if found is None:
        found = next((v for v in head if v is not None), None)
    text = repr(found)
    return text if len(text) <= 40 else text[:37] + "..."


# Names and content


def _select(names: Sequence[str], columns: Sequence[str] | None, drop: Sequence[str]) -> list[int]:
    """Indices of the columns to read, in order."""
    place = {name: index for index, name in enumerate(names)}
    for option, given in [("columns", columns), ("drop", drop)]:
        if isinstance(given, str):
            raise DataError(f"{option} is the text {given!r}; give a list of names")
        for name in given or ():
            if name not in place:
                raise DataError(f"there is no column {name!r}{_close(name, names)}; there are {_listed(names)}")
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


def _close(name: str, names: Sequence[str]) -> str:
    matches = difflib.get_close_matches(str(name), names, n=3)
    return f" (did you mean {' or '.join(repr(match) for match in matches)}?)" if matches else ""


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:20]) or "none"
    return shown if len(names) <= 20 else f"{shown} and {len(names) - 20} more"


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
