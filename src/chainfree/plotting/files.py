"""Figures into files that are whole or absent, and the same bytes every time."""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .style import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["save"]

DOTS_PER_INCH = 150

# what matplotlib would write by itself: its version and the time, which change the bytes of an unchanged picture
_NO_METADATA: Mapping[str, Mapping[str, None]] = {
    "png": {"Software": None},
    "svg": {"Creator": None, "Date": None},
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
}


def save(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write ``figure`` at 150 dots per inch; the name's ending picks png, svg or pdf.

    The picture is drawn in memory, written to a temporary name in the same folder and renamed: a kill at any moment
    leaves the old file or the new one. Missing folders are made. No time stamp and no version is written.

    Args:
        figure: any matplotlib figure.
        path: where to; an existing file is replaced.

    Returns:
        The path.

    Raises:
        ValueError: another ending.
    """
    path = Path(path)
    kind = path.suffix.lower().removeprefix(".")
    if kind not in _NO_METADATA:
        raise ValueError(f"cannot write {path.name!r}; end its name in one of .{', .'.join(_NO_METADATA)}")
    drawn = io.BytesIO()
    with style():
        import matplotlib

        # identifiers inside an svg are random without a salt
        with matplotlib.rc_context({"svg.hashsalt": "chainfree"}):
            figure.savefig(drawn, format=kind, dpi=DOTS_PER_INCH, metadata=dict(_NO_METADATA[kind]))
    path.parent.mkdir(parents=True, exist_ok=True)
    # not tempfile: its files are for their owner only, and a report is for everybody whom the folder lets in
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(drawn.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
