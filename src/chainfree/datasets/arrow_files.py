"""Columns from CSV and Parquet files by pyarrow.

It refuses ragged rows, damaged gzip streams and bad text instead of guessing, and keeps repeated column names.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import DataError
from .wording import one_line

__all__ = ["arrow_of_csv", "arrow_of_parquet", "numbers_of"]


def arrow_of_csv(path: str | os.PathLike[str]) -> Any:
    """The table of a CSV file with a header line; :class:`DataError` if it cannot be one."""
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
            f"cannot be read as CSV ({one_line(error)}); write UTF-8 text with a header line, commas, and as many cells "
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


def arrow_of_parquet(path: str | os.PathLike[str]) -> Any:
    """The table of a Parquet file, without an index that pandas stored; :class:`DataError` if damaged."""
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
        raise DataError(f"cannot be read as Parquet ({one_line(error)}); write the file again") from error
    stored = metadata.get("index_columns") if isinstance(metadata, dict) else None
    # row labels, not data: a name per stored index, a dict for a plain range, which is not stored
    index = {name for name in stored if isinstance(name, str)} if isinstance(stored, list) else set()
    return table.select([i for i, name in enumerate(names) if name not in index])


def _no_pyarrow() -> DataError:
    return DataError("CSV and Parquet need pyarrow; pip install 'chainfree[tables]'")


def numbers_of(name: str, column: Any) -> NDArray[np.float64]:
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
            "--drop, encode it as numbers, or fit the table with --task"
        )
    numbers: NDArray[np.float64] = column.to_numpy().astype(np.float64)
    return numbers


def _example(column: Any) -> str:
    """A value that is no number: in a column of numbers with a few words, a word."""
    try:
        head = column.slice(0, 100_000).to_pylist()
    except (ValueError, OverflowError) as error:  # text that is not UTF-8, times that Python has no type for
        return f"one that cannot be shown ({one_line(error)})"
    found = next((v for v in head if v is not None and not (isinstance(v, str) and (not v or _is_number(v)))), None)
    if found is None:
        found = next((v for v in head if v is not None), None)
    text = repr(found)
    return text if len(text) <= 40 else text[:37] + "..."
