"""Anomaly-detection problems: learn the normal rows, then rank unseen ones.

Half of the normal rows are for training; the other half and all anomalies are the test. Holding out one digit is the
problem of Zenati et al. 2018, arXiv:1802.06222, here on scikit-learn's 8 x 8 digits; the tables are those of ADBench,
Han et al. 2022, arXiv:2206.09426.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .errors import DataError
from .files import read_arrays, read_table
from .locate import find

__all__ = ["AnomalySplit", "load_adbench", "load_digits_one_held_out"]


@dataclass(frozen=True, eq=False)
class AnomalySplit:
    """Normal rows to train on, and normal rows and anomalies to tell apart.

    Args:
        x_train: ``(N, D)`` float32, normal rows only.
        x_test: ``(M, D)`` float32.
        y_test: ``(M,)`` int64, 1 where the row is an anomaly, else 0.

    Raises:
        DataError: other shapes, types or labels.
    """

    x_train: Tensor
    x_test: Tensor
    y_test: Tensor

    def __post_init__(self) -> None:
        for name, x in [("x_train", self.x_train), ("x_test", self.x_test)]:
            if x.dtype != torch.float32 or x.dim() != 2 or not len(x):
                raise DataError(f"{name} must be float32 rows (N, D), got {x.dtype} {tuple(x.shape)}; convert it")
        if self.x_train.shape[1] != self.x_test.shape[1]:
            raise DataError(
                f"x_train has {self.x_train.shape[1]} columns, x_test {self.x_test.shape[1]}; use the same columns"
            )
        y = self.y_test
        labels = sorted(set(y.tolist()))
        if y.dtype != torch.int64 or y.shape != self.x_test.shape[:1] or labels != [0, 1]:
            raise DataError(
                f"y_test must be int64 ({len(self.x_test)},) with both 0 and 1, got {y.dtype} {tuple(y.shape)} with "
                f"{labels[:5]}; mark anomalies 1 and the rest 0"
            )


def load_digits_one_held_out(digit: int, *, seed: int) -> AnomalySplit:
    """Scikit-learn's 8 x 8 digits with one digit as the anomaly and the nine others as normal.

    Args:
        digit: the anomaly, 0 to 9.
        seed: of the halving of the normal rows, at least 0.

    Returns:
        Rows of 64 grey values in [0, 1], steps of 1/16.

    Raises:
        ValueError: no such digit.
    """
    from sklearn.datasets import load_digits  # slow to import

    if isinstance(digit, bool) or digit not in range(10):
        raise ValueError(f"digit must be a whole number from 0 to 9, got {digit!r}")
    x, y = load_digits(return_X_y=True)
    return _half_split((x / 16).astype(np.float32), y == digit, seed)


def load_adbench(name: str, seed: int, data_dir: str | os.PathLike[str] | None = None) -> AnomalySplit:
    """A table of ADBench from the folder ``adbench`` in the data folder, in its own units.

    Args:
        name: the part of the file's name after the number, in any case: ``"cardiotocography"`` for
            ``7_Cardiotocography.npz``.
        seed: of the halving of the normal rows, at least 0.
        data_dir: the data folder; without it, the one that ``CHAINFREE_DATA`` names.

    Raises:
        DataError: the folder or the table is missing or damaged; the message lists the names there are.
    """
    folder = find("adbench", data_dir)
    tables = {re.sub(r"^\d+_", "", path.stem).lower(): path for path in sorted(folder.glob("*.npz"))}
    if name.lower() not in tables:
        raise DataError(f"{folder} has no table {name!r}; it has {', '.join(sorted(tables)) or 'none'}")
    path = tables[name.lower()]
    x = read_table(path, key="X").values.astype(np.float32)
    y = read_arrays(path, ["y"])["y"]
    if y.shape != x.shape[:1] or not np.isin(y, (0, 1)).all():
        raise DataError(f"{path}: y is {y.dtype} of shape {y.shape}; save one 0 or 1 for each of the {len(x)} rows")
    return _half_split(x, y == 1, seed)


def _half_split(x: NDArray[np.float32], anomaly: NDArray[np.bool_], seed: int) -> AnomalySplit:
    normal = np.random.default_rng(seed).permutation(np.flatnonzero(~anomaly))
    half = len(normal) // 2
    test = np.concatenate([normal[half:], np.flatnonzero(anomaly)])
    return AnomalySplit(
        x_train=torch.from_numpy(x[normal[:half]]),
        x_test=torch.from_numpy(x[test]),
        y_test=torch.from_numpy(anomaly[test].astype(np.int64)),
    )
