"""Tables from files, whole or a part at a time, and back."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..datasets import DataError
from ..datasets.wording import one_line
from ..engine.atomic import replacing
from .errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TableWriter", "read_frame", "read_parts", "require_table_file", "writing_table"]

_PART = 100_000
_KEYS = 0.05  # of the cells
_DATE = r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)?"
_READ = (".csv", ".csv.gz", ".parquet")
_WRITTEN = (".csv", ".csv.gz", ".parquet")


def read_frame(path: str, *, drop: tuple[str, ...] = ()) -> pd.DataFrame:
    """All of a .csv, .csv.gz or .parquet file.

    Raises:
        DataError: it cannot be read, or has no such column to drop.
    """
    import pandas as pd

    if _kind(path, _READ) == ".parquet":
        parts = list(read_parts(path))
        if not parts:
            raise DataError(f"{path} has no rows; give at least one")
        frame = pd.concat(parts, ignore_index=True)
    else:
        # types by all of the file
        frame = _with_dates(_with_keys(_whole(path), path))
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

    kind = _kind(path, _READ)
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
                yield part.assign(**{name: _dates(part[name]) for name in there})
        if not found:
            raise DataError(f"{path} has a header and no rows; give at least one")


def _whole(path: str) -> pd.DataFrame:
    """All of a CSV file, its types as pandas finds them."""
    import pandas as pd

    with _readable(path):
        frame = pd.read_csv(path, skipinitialspace=True, low_memory=False)
    if not len(frame):
        raise DataError(f"{path} has a header and no rows; give at least one")
    return frame


@contextmanager
def _readable(path: str) -> Iterator[None]:
    """What goes wrong in reading a file, in a line."""
    if not Path(path).is_file():
        raise DataError(f"there is no file {path}; check the path")
    try:
        yield
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
    """With dates where all text of a column is dates of ISO 8601, without a zone."""
    import pandas as pd

    found = {}
    for name in frame.columns:
        if list(frame.columns).count(name) > 1 or not pd.api.types.is_string_dtype(frame[name]):
            continue
        cells = frame[name].dropna()
        if len(cells) and cells.astype("str").str.fullmatch(_DATE).all():
            try:
                found[str(name)] = _dates(frame[name])
            except DataError:  # the thirtieth of February: text, then
                continue
    return frame.assign(**found) if found else frame


def _dates(cells: pd.Series) -> pd.Series:
    import pandas as pd

    try:
        return pd.to_datetime(cells, format="ISO8601")
    except ValueError as error:
        raise DataError(f"column {cells.name!r} takes dates as 2024-12-31: {one_line(error)}") from error


class TableWriter:
    """Parts of a table into one file.

    Args:
        path: to write to.
        kind: ``".csv"``, ``".csv.gz"`` or ``".parquet"``.
    """

    def __init__(self, path: Path, kind: str) -> None:
        self._path, self._kind = path, kind
        self._file: Any = None
        self.rows = 0

    def write(self, part: pd.DataFrame) -> None:
        """Add rows; all parts have the same columns."""
        self.rows += len(part)
        if self._kind == ".parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            table = pa.Table.from_pandas(part, preserve_index=False)
            if self._file is None:
                self._file = pq.ParquetWriter(self._path, table.schema)
            self._file.write_table(table.cast(self._file.schema))
            return
        first = self._file is None
        if first:
            opened = gzip.open if self._kind == ".csv.gz" else open
            self._file = opened(self._path, "wt", encoding="utf-8", newline="")
        part.to_csv(self._file, index=False, header=first, lineterminator="\n")

    def close(self) -> None:
        """Finish the file."""
        if self._file is not None:
            self._file.close()


@contextmanager
def writing_table(path: str) -> Iterator[TableWriter]:
    """A writer whose file is there as a whole, or not at all.

    Raises:
        UsageError: it cannot be written, or ends in something else.
    """
    kind = require_table_file(path)
    try:
        with replacing(Path(path)) as temporary:
            writer = TableWriter(temporary, kind)
            try:
                yield writer
            finally:
                writer.close()
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}; choose another --out") from error


def require_table_file(path: str) -> str:
    """The kind of a file to write.

    Raises:
        UsageError: another than .csv, .csv.gz or .parquet.
    """
    for kind in _WRITTEN:
        if path.endswith(kind):
            return kind
    raise UsageError(f"--out must end in {', '.join(_WRITTEN[:-1])} or {_WRITTEN[-1]}, got {path!r}")


def _kind(path: str, known: tuple[str, ...]) -> str:
    for kind in known:
        if path.endswith(kind):
            return kind
    raise DataError(f"{path} is no table that can be read; give a file that ends in {', '.join(known)}")
