"""The data of a run: what to train on, what to hold out, what is known of the truth."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..datasets import (
    AnomalySplit,
    DataError,
    load_adbench,
    load_digits_one_held_out,
    load_fashion_mnist,
    load_mnist,
    read_table,
    toy_density,
    train_held_out_split,
)
from ..engine.seeding import mixed_seed
from ..typing import Density
from .settings import TrainSettings

__all__ = ["Source", "load_source"]

# draws that scale and test a toy density; training draws fresh ones
_TOY_FIT_ROWS = 20_000
_TOY_HELD_OUT_ROWS = 50_000
_FEWEST_ROWS = 20


@dataclass(frozen=True, eq=False)
class Source:
    """Data as a run sees them.

    Args:
        title: for pictures and tables.
        train: rows to train on (toy densities: to scale by), ``(N, *event)``.
        held_out: rows for validation, ``(H, *event)``.
        density: the truth, where it is known; training then draws fresh rows from it.
        anomalies: the test of an anomaly problem.
        columns: names of a table's columns.
        image_shape: ``(H, W)`` of rows that are flattened images or images.
    """

    title: str
    train: Tensor
    held_out: Tensor
    density: Density | None = None
    anomalies: AnomalySplit | None = None
    columns: tuple[str, ...] | None = None
    image_shape: tuple[int, int] | None = None

    def digest(self) -> str:
        """A fingerprint of the training rows."""
        return hashlib.sha256(self.train.contiguous().numpy().tobytes()).hexdigest()


def load_source(settings: TrainSettings) -> Source:
    """Load what ``settings.data`` names.

    Raises:
        DataError: no such data, or data that cannot be trained on; one line with the remedy.
    """
    kind, colon, name = settings.data.partition(":")
    if kind in ("toy", "adbench", "digits", "mnist", "fashion_mnist"):
        if colon and kind not in ("toy", "adbench"):
            raise DataError(
                f"data {kind!r} takes no name, got {settings.data!r}; a class is held out with --anomaly 0..9"
            )
        if settings.drop or settings.key is not None:
            raise DataError(f"drop and key are for tables from files, and data is {settings.data!r}; leave them out")
    if kind == "toy":
        return _toy(name)
    if kind == "digits":
        return _digits(settings)
    if kind == "adbench":
        return _anomaly_problem(load_adbench(name, settings.seed), f"ADBench {name}", settings)
    if kind in ("mnist", "fashion_mnist"):
        return _images(kind, settings)
    return _table(settings)


def _toy(name: str) -> Source:
    try:
        density = toy_density(name)
    except ValueError as error:
        raise DataError(str(error)) from error
    train = density.sample(_TOY_FIT_ROWS, generator=torch.Generator().manual_seed(mixed_seed(1, 0)))
    held_out = density.sample(_TOY_HELD_OUT_ROWS, generator=torch.Generator().manual_seed(mixed_seed(1, 1)))
    return Source(name, train, held_out, density=density)


def _digits(settings: TrainSettings) -> Source:
    if settings.anomaly is None:
        raise DataError("data 'digits' is an anomaly problem; say which digit is held out with --anomaly 0..9")
    split = load_digits_one_held_out(settings.anomaly, seed=settings.seed)
    return _anomaly_problem(split, f"digits without {settings.anomaly}", settings, image_shape=(8, 8))


def _images(kind: str, settings: TrainSettings) -> Source:
    load = load_mnist if kind == "mnist" else load_fashion_mnist
    title = kind.replace("_", "-")
    train, test = load("train"), load("test")
    if settings.anomaly is None:
        x, held_out = _split(train.x.float() / 255, settings)
        return Source(title, x, held_out, image_shape=(28, 28))
    normal = train.x[train.y != settings.anomaly].float() / 255
    split = AnomalySplit(normal.flatten(1), test.x.float().flatten(1) / 255, (test.y == settings.anomaly).long())
    return _anomaly_problem(split, f"{title} without {settings.anomaly}", settings, image_shape=(28, 28))


def _anomaly_problem(
    split: AnomalySplit, title: str, settings: TrainSettings, *, image_shape: tuple[int, int] | None = None
) -> Source:
    # the test part is never looked at while training: validation rows come from the normal training rows
    train, held_out = _split(split.x_train, settings)
    return Source(title, train, held_out, anomalies=split, image_shape=image_shape)


def _table(settings: TrainSettings) -> Source:
    table = read_table(settings.data, key=settings.key, drop=settings.drop)
    constant = [c for c, v in zip(table.columns, table.values.T, strict=True) if np.ptp(v) == 0]
    if constant:
        raise DataError(
            f"constant columns have no density: {', '.join(constant)}; drop them: --drop {','.join(constant)}"
        )
    # float64 until the rows are scaled
    train, held_out = _split(torch.from_numpy(table.values), settings)
    return Source(Path(settings.data).name, train, held_out, columns=table.columns)


def _split(x: Tensor, settings: TrainSettings) -> tuple[Tensor, Tensor]:
    if len(x) < _FEWEST_ROWS:
        raise DataError(f"{len(x)} rows are too few to train on; give at least {_FEWEST_ROWS}")
    train, held_out = train_held_out_split(len(x), settings.held_out, settings.seed)
    if len(train) < settings.batch:
        raise DataError(f"{len(train)} training rows are fewer than a batch of {settings.batch}; lower --batch")
    return x[train], x[held_out]
