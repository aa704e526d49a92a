"""Whether samples look like the data and whether they cover them, by balls around nearest neighbours.

Kynkäänniemi, Karras, Laine, Lehtinen, Aila, "Improved Precision and Recall Metric for Assessing Generative Models", NeurIPS
2019, arXiv 1904.06991. Naeem, Oh, Uh, Choi, Yoo, "Reliable Fidelity and Diversity Metrics for Generative Models", ICML 2020,
arXiv 2002.09797.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import pairwise_distances_chunked
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from ..checks import require_positive_int
from .rows import Rows, flat_pair

__all__ = ["DensityCoverage", "PrecisionRecall", "density_coverage", "precision_recall"]

_MEBIBYTES = 64  # of distances held at a time
_ROUNDING = 1e-12  # of expanded squares, in units of the largest: equal rows are at distance 0 then


class PrecisionRecall(NamedTuple):
    """Shares of rows, from 0 to 1.

    Args:
        precision: of the samples, which lie where data are.
        recall: of the data, which lie where samples are.
    """

    precision: float
    recall: float


class DensityCoverage(NamedTuple):
    """As precision and recall, but an outlier among the data, whose ball is large, counts for little.

    Args:
        density: in how many balls of the data a sample lies, by the number of neighbours: about 1 for samples of the data's
            law, more where samples crowd.
        coverage: the share of the data whose ball holds a sample, from 0 to 1.
    """

    density: float
    coverage: float


def precision_recall(data: Tensor, samples: Tensor, *, neighbors: int = 3) -> PrecisionRecall:
    """Precision and recall of samples, where a set's support is the union of balls up to each row's k-th neighbour.

    Samples of the data's own law have neither at 1: report those of held-out data beside them, for as many rows.

    Args:
        data: rows, ``(N, *event)``, more than ``neighbors``; flattened. Distances are Euclidean: scale the columns of
            tables, take features of images.
        samples: ``(M, *event)``, more than ``neighbors``.
        neighbors: k, the paper's 3.

    Raises:
        ValueError: rows that are not finite floats of one shape, or too few.

    >>> import torch
    >>> data = torch.arange(10.0).unsqueeze(1)
    >>> precision_recall(data, data[:5], neighbors=1)
    PrecisionRecall(precision=1.0, recall=0.6)
    """
    a, b = _rows(data, samples, neighbors)
    return PrecisionRecall(
        float((_balls(a, b, neighbors)[1] > 0).mean()), float((_balls(b, a, neighbors)[1] > 0).mean())
    )


def density_coverage(data: Tensor, samples: Tensor, *, neighbors: int = 5) -> DensityCoverage:
    """Density and coverage of samples; arguments and errors as for :func:`precision_recall`, the paper's k is 5."""
    a, b = _rows(data, samples, neighbors)
    held, within = _balls(a, b, neighbors)
    return DensityCoverage(float(within.mean() / neighbors), float((held > 0).mean()))


def _rows(data: Tensor, samples: Tensor, neighbors: int) -> tuple[Rows, Rows]:
    require_positive_int("neighbors", neighbors)
    return flat_pair("data", data, "samples", samples, least=neighbors + 1)


def _balls(centres: Rows, points: Rows, neighbors: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many points each ball around a centre holds, and in how many balls each point lies."""
    nearest = NearestNeighbors(n_neighbors=neighbors, algorithm="brute").fit(centres)
    radii = nearest.kneighbors()[0][:, -1]  # of the rows it was fitted to, each without itself
    scale = max(float(np.square(rows).sum(1).max()) for rows in (centres, points))
    reach = np.square(radii) + _ROUNDING * scale
    held, within, start = np.empty(len(centres), np.int64), np.zeros(len(points), np.int64), 0
    for squares in pairwise_distances_chunked(centres, points, working_memory=_MEBIBYTES, squared=True):
        stop = start + len(squares)
        inside = squares <= reach[start:stop, None]
        held[start:stop] = inside.sum(1)
        within += inside.sum(0)
        start = stop
    return held, within
