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
        frame = _with_keys(next(iter(read_parts(path, at_once=None))), path)
    unknown = [name for name in drop if name not in frame.columns]
    if unknown:
        raise DataError(f"{path} has no column {unknown[0]!r} to drop; it has {', '.join(map(str, frame.columns))}")
    return frame.drop(columns=list(drop))


def read_parts(path: str, *, text: Sequence[str] = (), at_once: int | None = -1) -> Iterator[pd.DataFrame]:
    """A file's rows, a hundred thousand at a time.

    Args:
        path: of the file.
        text: columns that are text whatever they look like: a part of a file may hold digits alone.
        at_once: rows of a part; ``None`` for all.

    Raises:
        DataError: it cannot be read.
    """
    import pandas as pd

    kind = _kind(path, _READ)
    if not Path(path).is_file():
        raise DataError(f"there is no file {path}; check the path")
    try:
        if kind == ".parquet":
            import pyarrow.parquet as pq

            for batch in pq.ParquetFile(path).iter_batches(batch_size=_PART):
                yield batch.to_pandas()
            return
        found = False
        types = dict.fromkeys(text, "str")
        if at_once is None:
            yield _with_rows(pd.read_csv(path, skipinitialspace=True, low_memory=False, dtype=types), path)
            return
        with pd.read_csv(path, chunksize=_PART, skipinitialspace=True, dtype=types) as parts:
            for part in parts:
                found = found or len(part) > 0
                yield part
        if not found:
            raise DataError(f"{path} has a header and no rows; give at least one")
    except (ValueError, OSError, EOFError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is no table that can be read: {one_line(error)}") from error


def _with_rows(frame: pd.DataFrame, path: str) -> pd.DataFrame:
    if not len(frame):
        raise DataError(f"{path} has a header and no rows; give at least one")
    return frame


def _with_keys(frame: pd.DataFrame, path: str) -> pd.DataFrame:
    """With text where a number has leading zeros: 007 is the name of something, and 7 is not."""
    import pandas as pd

    numeric = [place for place, name in enumerate(frame.columns) if frame[name].dtype.kind in "iuf"]
    if not numeric:
        return frame
    cells = pd.read_csv(path, skipinitialspace=True, dtype="str", usecols=numeric)
    keys = [name for name in cells.columns if cells[name].str.fullmatch(r"0\d+").any()]
    return frame.assign(**{str(name): cells[name] for name in keys}) if keys else frame


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
