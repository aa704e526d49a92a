"""Where data files are looked for, and where downloads are kept."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import DataError

__all__ = ["cache_dir", "data_dir", "find"]


def data_dir() -> Path | None:
    """The folder that the environment variable ``CHAINFREE_DATA`` names; ``None`` where it is unset or empty.

    Raises:
        DataError: it names something that is not a folder.
    """
    value = os.environ.get("CHAINFREE_DATA", "")
    if not value:
        return None
    return _require_folder(value, "CHAINFREE_DATA")


def cache_dir() -> Path:
    """The folder for downloads: ``CHAINFREE_CACHE``, or ``~/.cache/chainfree``. It need not exist yet."""
    value = os.environ.get("CHAINFREE_CACHE", "")
    # not Path.home(): it raises where a container has no home, and expanduser leaves a path that fails with its name
    return Path(value or os.path.expanduser("~/.cache/chainfree"))


def find(name: str, data_dir: str | os.PathLike[str] | None = None) -> Path:
    """The path of a file or folder of data.

    Args:
        name: its name relative to the data folder, such as ``"mnist.npz"``.
        data_dir: the data folder; without it, the one that ``CHAINFREE_DATA`` names.

    Raises:
        DataError: no data folder is known, it is no folder, or it has no such file.
    """
    folder = _folder(data_dir)
    if folder is None:
        raise DataError(f"{name} needs a data folder; set CHAINFREE_DATA to the folder that holds it, or pass data_dir")
    path = folder / name
    if not os.path.exists(path):
        raise DataError(f"{folder} has no {name}; put it there, or set CHAINFREE_DATA to the folder that holds it")
    return path


def _folder(given: str | os.PathLike[str] | None) -> Path | None:
    return data_dir() if given is None else _require_folder(given, "data_dir")


def _require_folder(value: str | os.PathLike[str], name: str) -> Path:
    if not os.path.isdir(value):
        raise DataError(f"{name} is {os.fspath(value)!r}, which is not a folder; give the folder that holds the data")
    return Path(value)
