"""Tables from files, whole or a part at a time: what their text means is seen alike everywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..datasets import DataError
from ..datasets.wording import one_line

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["read_file", "read_parts"]

_PART = 100_000
_READ = (".csv", ".csv.gz", ".parquet")
_KEYS = 0.05  # of the cells
_ZONE = r"(?:Z|[+-]\d{2}:?\d{2})"
_DATE = rf"\d{{4}}-\d{{2}}-\d{{2}}([T ]\d{{2}}:\d{{2}}(:\d{{2}}(\.\d+)?)?{_ZONE}?)?"
_OTHER_SEPARATORS = ";\t|"


def read_file(path: str, *, drop: tuple[str, ...] = ()) -> pd.DataFrame:
    """All of a .csv, .csv.gz or .parquet file, as estimators and the command take it.

    Of a CSV's text, dates of ISO 8601 are dates, of UTC where they name zones; numbers with leading zeros are names; whole
    numbers with holes stay whole.

    Args:
        path: of the file; a CSV is UTF-8 with commas.
        drop: columns to leave out.

    Raises:
        DataError: it cannot be read, or has no such column to drop.
    """
    import pandas as pd

    if _kind(path) == ".parquet":
        parts = list(read_parts(path))
        if not parts:
            raise DataError(f"{path} has no rows; give at least one")
        frame = pd.concat(parts, ignore_index=True)
    else:
        # types by all of the file
        frame = _with_whole_numbers(_with_dates(_with_keys(_whole(path), path)))
    unknown = [name for name in drop if name not in frame.columns]
    if unknown:
        raise DataError(f"{path} has no column {unknown[0]!r} to drop; it has {', '.join(map(str, frame.columns))}")
    return frame.drop(columns=list(drop))


def read_parts(path: str, *, text: Sequence[str] = (), dates: Sequence[str] = ()) -> Iterator[pd.DataFrame]:
    """A file's rows, a hundred thousand at a time.

    Args:
        path: of the file.
        text: columns that are text whatever they look like: a part of a file may hold digits alone.
        dates: columns that are dates: a CSV has them as text.

    Raises:
        DataError: it cannot be read, or has something else where dates are to be.
    """
    import pandas as pd

    kind = _kind(path)
    with _readable(path):
        if kind == ".parquet":
            import pyarrow.parquet as pq

            for batch in pq.ParquetFile(path).iter_batches(batch_size=_PART):
                yield batch.to_pandas()
            return
        found = False
        types = dict.fromkeys([*text, *dates], "str")
        with pd.read_csv(path, chunksize=_PART, skipinitialspace=True, dtype=types) as parts:
            for part in parts:
                found = found or len(part) > 0
                there = [name for name in dates if name in part.columns]
                yield _with_whole_numbers(part.assign(**{name: _dates(part[name]) for name in there}))
        if not found:
            raise DataError(f"{path} has a header and no rows; give at least one")


def _whole(path: str) -> pd.DataFrame:
    """All of a CSV file, its types as pandas finds them."""
    import pandas as pd

    with _readable(path):
        frame = pd.read_csv(path, skipinitialspace=True, low_memory=False)
    if not len(frame):
        raise DataError(f"{path} has a header and no rows; give at least one")
    if len(frame.columns) == 1 and any(sign in str(frame.columns[0]) for sign in _OTHER_SEPARATORS):
        raise DataError(f"{path} has one column called {frame.columns[0]!r}; save it with commas between columns")
    return frame


@contextmanager
def _readable(path: str) -> Iterator[None]:
    """What goes wrong in reading a file, in a line."""
    if not Path(path).is_file():
        raise DataError(f"there is no file {path}; check the path")
    try:
        yield
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 ({one_line(error)}); save it as that") from error
    except (ValueError, OSError, EOFError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is no table that can be read: {one_line(error)}") from error


def _with_keys(frame: pd.DataFrame, path: str) -> pd.DataFrame:
    """With text where numbers have leading zeros: 007 is the name of something, and 7 is not.

    One zero too many in a column of thousands is a slip: names are all equally long, or a twentieth of them begins so.
    """
    import pandas as pd

    numeric = [name for name in frame.columns if frame[name].dtype.kind in "iuf"]
    if not numeric:
        return frame
    with _readable(path):
        text = pd.read_csv(path, skipinitialspace=True, dtype="str").set_axis(frame.index)
    keys = {}
    for name in numeric:
        cells = text[name].str.strip()
        there = cells.dropna()
        zeros = there.str.fullmatch(r"0\d+")
        if zeros.any() and (there.str.len().nunique() == 1 or zeros.mean() >= _KEYS):
            keys[str(name)] = cells
    return frame.assign(**keys) if keys else frame


def _with_dates(frame: pd.DataFrame) -> pd.DataFrame:
    """With dates where all text of a column is dates of ISO 8601."""
    import pandas as pd

    found = {}
    for name in frame.columns:
        cells = frame[name].dropna()
        if not pd.api.types.is_string_dtype(frame[name]) or not len(cells):
            continue
        if cells.astype("str").str.fullmatch(_DATE).all():
            try:
                found[str(name)] = _dates(frame[name])
            except DataError:  # the thirtieth of February: text, then
                continue
    return frame.assign(**found) if found else frame


def _with_whole_numbers(frame: pd.DataFrame) -> pd.DataFrame:
    """With whole numbers where holes alone have made floats of them."""
    whole = {}
    for name in frame.columns:
        if frame[name].dtype.kind != "f" or not frame[name].isna().any():
            continue
        values = frame[name].dropna().to_numpy()
        if (
            len(values)
            and np.isfinite(values).all()
            and (values == np.floor(values)).all()
            and abs(values).max() < 2**53
        ):
            whole[str(name)] = frame[name].astype("Int64")
    return frame.assign(**whole) if whole else frame


def _dates(cells: pd.Series) -> pd.Series:
    import pandas as pd

    zoned = bool(cells.dropna().astype("str").str.contains(rf"\d{_ZONE}$").any())
    try:
        return pd.to_datetime(cells, format="ISO8601", utc=zoned)
    except ValueError as error:
        raise DataError(
            f"column {cells.name!r} takes dates as 2024-12-31: {one_line(error).partition('. ')[0]}"
        ) from error


def _kind(path: str) -> str:
    for kind in _READ:
        if path.endswith(kind):
            return kind
    raise DataError(f"{path} is no table that can be read; give a file that ends in {', '.join(_READ)}")
