"""Tables into files, a part at a time."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..engine.atomic import replacing
from .errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TableWriter", "require_table_file", "writing_table"]

_WRITTEN = (".csv", ".csv.gz", ".parquet")


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
