"""Rows as the distances between samples take them: flat, finite, float64, on the host."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics.pairwise import euclidean_distances
from torch import Tensor

from ..checks import require_finite, require_positive

__all__ = ["chosen_bandwidth", "flat_pair", "flat_rows", "median_distance"]

Rows = NDArray[np.float64]

_FOR_THE_MEDIAN = 1000  # rows: half a million distances know their median to a few thousandths


def flat_rows(name: str, x: Tensor, *, least: int = 2) -> Rows:
    """``(N, *event)`` as a new float64 array ``(N, D)``.

    Raises:
        ValueError: no tensor of floats with rows and features, fewer than ``least`` rows, or entries that are not finite.
    """
    if x.dim() < 2 or not x.is_floating_point() or not x[:1].numel():
        raise ValueError(
            f"{name} must be floats of shape (N, *event), got {x.dtype} of shape {tuple(x.shape)}; convert or reshape them"
        )
    if len(x) < least:
        raise ValueError(f"{name} must have at least {least} rows, got {len(x)}; draw more")
    require_finite(name, x)
    rows: Rows = x.detach().cpu().double().flatten(1).numpy().copy()
    return rows


def flat_pair(first: str, x: Tensor, second: str, y: Tensor, *, least: int = 2) -> tuple[Rows, Rows]:
    """Both sets of rows, moved together so that their common mean is 0.

    Distances do not change by it, and expanded squares of rows far from the origin no longer cancel.

    Raises:
        ValueError: as :func:`flat_rows`, or events of different shapes.
    """
    if x.shape[1:] != y.shape[1:]:
        raise ValueError(
            f"{first} and {second} must have rows of one shape, got {tuple(x.shape[1:])} and {tuple(y.shape[1:])}"
        )
    a, b = flat_rows(first, x, least=least), flat_rows(second, y, least=least)
    centre = (a.sum(0) + b.sum(0)) / (len(a) + len(b))
    a -= centre
    b -= centre
    return a, b


def median_distance(*parts: Rows) -> float:
    """The median distance of two different rows; of sets with many rows, of a thousand in all, spread evenly.

    Raises:
        ValueError: it is 0, since most rows are equal.
    """
    share = min(1.0, _FOR_THE_MEDIAN / sum(map(len, parts)))
    spread = np.concatenate(
        [rows[np.linspace(0, len(rows) - 1, max(2, round(len(rows) * share))).astype(int)] for rows in parts]
    )
    distances = euclidean_distances(spread - spread.mean(0))
    median = float(np.median(distances[np.triu_indices(len(spread), 1)]))
    if not median > 0:
        raise ValueError("the median distance of the rows is 0, since most are equal; give a bandwidth")
    return median


def chosen_bandwidth(given: float | None, *parts: Rows) -> float:
    """The bandwidth that was given, or else the median distance.

    Raises:
        ValueError: it is not above 0.
    """
    if given is None:
        return median_distance(*parts)
    require_positive("bandwidth", given)
    return float(given)
