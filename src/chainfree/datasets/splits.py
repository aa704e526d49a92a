"""A held-out share of the rows."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..checks import require_positive_int

__all__ = ["train_held_out_split"]


def train_held_out_split(n: int, fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split ``n`` rows at random into training rows and held-out rows.

    Args:
        n: number of rows, at least 2.
        fraction: of the rows that are held out, in (0, 1); rounded to whole rows, at least one on each side.
        seed: at least 0; the same seed gives the same split.

    Returns:
        Indices of the training rows and of the held-out rows, each in rising order; together every row once.

    Raises:
        ValueError: an argument outside its range.
    """
    require_positive_int("n", n)
    if n < 2:
        raise ValueError(f"n must be at least 2 to split, got {n!r}")
    if not (math.isfinite(fraction) and 0 < fraction < 1):
        raise ValueError(f"fraction must be a number in (0, 1), got {fraction!r}")
    held_out = min(max(round(n * fraction), 1), n - 1)
    order = np.random.default_rng(seed).permutation(n)
    return np.sort(order[held_out:]), np.sort(order[:held_out])
