"""MNIST and Fashion-MNIST: from the data folder, else downloaded once into the cache.

LeCun, Cortes and Burges, *The MNIST database*, 1998; Xiao, Rasul and Vollgraf, *Fashion-MNIST*, 2017, arXiv:1708.07747.
"""

from __future__ import annotations

import gzip
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .download import download, has_checksum
from .errors import DataError
from .files import read_arrays
from .locate import cache_dir, find
from .locate import data_dir as environment_data_dir

__all__ = ["Images", "load_fashion_mnist", "load_mnist", "read_idx"]

_UNSIGNED_BYTES = 8

Split = Literal["train", "test"]


@dataclass(frozen=True, eq=False)
class Images:
    """Grey or colour images with their classes.

    Args:
        x: ``(N, C, H, W)`` uint8, 0 to 255.
        y: classes, ``(N,)`` int64.

    Raises:
        DataError: other shapes or types.
    """

    x: Tensor
    y: Tensor

    def __post_init__(self) -> None:
        if self.x.dtype != torch.uint8 or self.x.dim() != 4 or not len(self.x):
            raise DataError(f"images are uint8 (N, C, H, W), got {self.x.dtype} {tuple(self.x.shape)}; convert them")
        if self.y.dtype != torch.int64 or self.y.shape != self.x.shape[:1]:
            raise DataError(
                f"labels are int64 ({len(self.x)},), got {self.y.dtype} {tuple(self.y.shape)}; give one per image"
            )

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class _Source:
    npz: str  # the archive's name in the data folder
    folders: tuple[str, ...]  # folders of idx files in the data folder: ours, then torchvision's
    mirror: str
    checksums: dict[str, str]  # of the idx files at the mirror


_MNIST = _Source(
    npz="mnist.npz",
    folders=("mnist", "MNIST/raw"),
    mirror="https://ossci-datasets.s3.amazonaws.com/mnist/",
    checksums={
        "train-images-idx3-ubyte.gz": "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "md5:d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "md5:9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "md5:ec29112dd5afa0611ce80d1b7f02629c",
    },
)

_FASHION = _Source(
    npz="fashion_mnist.npz",
    folders=("fashion_mnist", "FashionMNIST/raw"),
    mirror="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    checksums={
        "train-images-idx3-ubyte.gz": "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "md5:25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "md5:bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "md5:bb300cfdad3c16e7a12a480ee83cd310",
    },
)


def load_mnist(split: Split, data_dir: str | os.PathLike[str] | None = None) -> Images:
    """Handwritten digits, 28 x 28: 60 000 for training, 10 000 for testing.

    Looked for in the data folder as ``mnist.npz`` (arrays ``x_train y_train x_test y_test``), then as idx files in its
    folders ``mnist`` and ``MNIST/raw``; if ``data_dir`` is not given, lastly downloaded into the cache folder
    (``CHAINFREE_CACHE``, or ``~/.cache/chainfree``).

    Args:
        split: ``"train"`` or ``"test"``.
        data_dir: the data folder, which then must hold the files; without it, the one that ``CHAINFREE_DATA`` names.

    Returns:
        ``x`` of shape ``(N, 1, 28, 28)`` uint8, ``y`` of shape ``(N,)`` int64.

    Raises:
        ValueError: another ``split``.
        DataError: the files are missing, damaged, or cannot be downloaded.
    """
    return _load(_MNIST, split, data_dir)


def load_fashion_mnist(split: Split, data_dir: str | os.PathLike[str] | None = None) -> Images:
    """Pictures of clothes, 28 x 28: 60 000 for training, 10 000 for testing; everything as in :func:`load_mnist`.

    The names in the data folder are ``fashion_mnist.npz``, ``fashion_mnist`` and ``FashionMNIST/raw``.
    """
    return _load(_FASHION, split, data_dir)


def read_idx(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """The array in an idx file of unsigned bytes, plain or (by its ending ``.gz``) compressed.

    The format: two zero bytes, the type (8 for unsigned bytes), the number of axes, each axis' length as a big-endian
    32-bit integer, the values.

    Raises:
        DataError: the file is missing or damaged, has another type, or is not as long as its header says.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: cannot be read ({reason}); check the path, or fetch it again") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != _UNSIGNED_BYTES or content[3] == 0:
        raise DataError(f"{path}: starts with {content[:4].hex()!r}, not an idx file of unsigned bytes; fetch it again")
    start = 4 + 4 * content[3]
    if len(content) < start:
        raise DataError(f"{path}: ends inside its header; fetch it again")
    shape = [int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4)]
    size = 1
    for length in shape:
        size *= length
    if len(content) - start != size:
        raise DataError(f"{path}: has {len(content) - start} values where its header says {size}; fetch it again")
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape).copy()


def _load(source: _Source, split: Split, data_dir: str | os.PathLike[str] | None) -> Images:
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")
    folder = environment_data_dir() if data_dir is None else Path(data_dir)
    names = _idx_names(source, split)
    if folder is not None:
        if (folder / source.npz).is_file():
            return _from_npz(folder / source.npz, split)
        for place in source.folders:
            files = [_plain_or_packed(folder / place / name) for name in names]
            if files[0] is not None and files[1] is not None:
                return _images(folder / place, read_idx(files[0]), read_idx(files[1]))
        if data_dir is not None:
            find(source.npz, data_dir)  # raises: the caller named this folder, so nothing is fetched instead
    images, labels = (_cached(source, name) for name in names)
    return _images(images.parent, read_idx(images), read_idx(labels))


def _idx_names(source: _Source, split: Split) -> list[str]:
    start = "train" if split == "train" else "t10k"
    return [name for name in source.checksums if name.startswith(start)]


def _plain_or_packed(path: Path) -> Path | None:
    return next((p for p in (path.with_suffix(""), path) if p.is_file()), None)


def _from_npz(path: Path, split: Split) -> Images:
    arrays = read_arrays(path, [f"x_{split}", f"y_{split}"])
    return _images(path, arrays[f"x_{split}"], arrays[f"y_{split}"])


def _images(path: Path, x: NDArray[np.generic], y: NDArray[np.generic]) -> Images:
    if x.dtype != np.uint8 or x.ndim != 3 or x.shape[1:] != (28, 28):
        raise DataError(f"{path}: images are uint8 (N, 28, 28), got {x.dtype} {x.shape}; fetch the original file")
    if y.dtype.kind not in "iu" or y.shape != x.shape[:1]:
        raise DataError(f"{path}: {y.dtype} {y.shape} labels for {len(x)} images; fetch the original file")
    return Images(torch.from_numpy(x).unsqueeze(1), torch.from_numpy(y.astype(np.int64)))


def _cached(source: _Source, name: str) -> Path:
    path = cache_dir() / source.folders[0] / name
    if has_checksum(path, source.checksums[name]):
        return path
    try:
        return download(source.mirror + name, path, checksum=source.checksums[name])
    except DataError as error:
        raise DataError(f"{error}; or set CHAINFREE_DATA to a folder that holds {source.npz}") from error
