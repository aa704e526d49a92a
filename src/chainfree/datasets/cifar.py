"""CIFAR-10: from the data folder, else downloaded once into the cache.

Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009.
"""

from __future__ import annotations

import os
import tarfile
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .download import download, has_checksum
from .errors import DataError
from .files import read_arrays
from .images import Images
from .locate import cache_dir, find
from .locate import data_dir as environment_data_dir
from .wording import one_line

__all__ = ["load_cifar10"]

_NPZ, _FOLDER, _ARCHIVE = "cifar10.npz", "cifar-10-batches-bin", "cifar-10-binary.tar.gz"
_URL = f"https://www.cs.toronto.edu/~kriz/{_ARCHIVE}"
_CHECKSUM = "md5:c32a1d4ab5d03f1284b67883e8d87530"
_PARTS = {"train": tuple(f"data_batch_{k}.bin" for k in range(1, 6)), "test": ("test_batch.bin",)}
_EVENT, _CLASSES = (3, 32, 32), 10
_ROWS = 10_000  # of every file
_RECORD = 1 + 3 * 32 * 32  # the class, then red, green and blue


def load_cifar10(split: Literal["train", "test"], data_dir: str | os.PathLike[str] | None = None) -> Images:
    """Small photographs of ten kinds of things, 3 x 32 x 32: 50 000 for training, 10 000 for testing.

    Looked for in the data folder as ``cifar10.npz`` (arrays ``x_train y_train x_test y_test``, images ``(N, 3, 32, 32)``),
    as the folder ``cifar-10-batches-bin`` and as ``cifar-10-binary.tar.gz``; if ``data_dir`` is not given, lastly downloaded
    into the cache folder. The archive is read where it lies and never unpacked.

    Args:
        split: ``"train"`` or ``"test"``.
        data_dir: the data folder, which then must hold the files; without it, the one that ``CHAINFREE_DATA`` names.

    Raises:
        ValueError: another ``split``.
        DataError: the files are missing, damaged, or cannot be downloaded.
    """
    if split not in _PARTS:
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")
    folder = environment_data_dir() if data_dir is None else Path(data_dir)
    if folder is not None:
        if (folder / _NPZ).is_file():
            return _from_npz(folder / _NPZ, split)
        if (folder / _FOLDER).is_dir():
            return _images(folder / _FOLDER, [_bytes(folder / _FOLDER / name) for name in _PARTS[split]])
        if (folder / _ARCHIVE).is_file():
            return _from_archive(folder / _ARCHIVE, split)
        if data_dir is not None:
            find(_NPZ, data_dir)  # raises: the caller named this folder, so nothing is fetched instead
    path = cache_dir() / _ARCHIVE
    if not has_checksum(path, _CHECKSUM):
        try:
            download(_URL, path, checksum=_CHECKSUM)
        except DataError as error:
            raise DataError(f"{error}; or set CHAINFREE_DATA to a folder that holds {_NPZ} or {_ARCHIVE}") from error
    return _from_archive(path, split)


def _from_npz(path: Path, split: str) -> Images:
    arrays = read_arrays(path, [f"x_{split}", f"y_{split}"])
    x, y = arrays[f"x_{split}"], arrays[f"y_{split}"]
    if x.dtype != np.uint8 or x.shape[1:] != _EVENT or y.dtype.kind not in "iu" or y.shape != x.shape[:1]:
        raise DataError(
            f"{path}: needs uint8 images (N, 3, 32, 32) and labels (N,), got {x.dtype} {x.shape}, {y.shape}"
        )
    return _checked(path, torch.from_numpy(x), y)


def _from_archive(path: Path, split: str) -> Images:
    try:
        with tarfile.open(path) as archive:
            members = [archive.extractfile(f"{_FOLDER}/{name}") for name in _PARTS[split]]
            return _images(path, [b"" if member is None else member.read() for member in members])
    except (OSError, EOFError, KeyError, tarfile.TarError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({one_line(error)}); fetch it again") from error


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({one_line(error)}); fetch the archive again") from error


def _images(path: Path, parts: list[bytes]) -> Images:
    content = b"".join(parts)
    if any(len(part) != _ROWS * _RECORD for part in parts):
        raise DataError(f"{path}: its files are not {_ROWS} records of {_RECORD} bytes each; fetch it again")
    records: NDArray[np.uint8] = np.frombuffer(content, dtype=np.uint8).reshape(-1, _RECORD)
    return _checked(path, torch.from_numpy(records[:, 1:].copy()).view(-1, *_EVENT), records[:, 0])


def _checked(path: Path, x: Tensor, y: NDArray[np.generic]) -> Images:
    classes = torch.from_numpy(y.astype(np.int64))
    if not 0 <= int(classes.min()) <= int(classes.max()) < _CLASSES:
        raise DataError(
            f"{path}: has classes from {int(classes.min())} to {int(classes.max())}, not of 0 to 9; fetch it again"
        )
    return Images(x, classes)
