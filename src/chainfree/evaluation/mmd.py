r"""The maximum mean discrepancy between samples.

Gretton, Borgwardt, Rasch, Schölkopf, Smola, "A Kernel Two-Sample Test", JMLR 13, 2012.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import pairwise_distances_chunked
from torch import Tensor

from .rows import Rows, chosen_bandwidth, flat_pair, median_distance

__all__ = ["squared_mmd"]

_MEDIANS = (0.5, 1.0, 2.0)
_MEBIBYTES = 64  # of distances held at a time: memory is linear in the rows, time is not


def squared_mmd(
    x: Tensor, y: Tensor, *, bandwidth: float | Sequence[float] | None = None, unbiased: bool = True
) -> float:
    r"""The squared maximum mean discrepancy :math:`E\,k(x, x') - 2\,E\,k(x, y) + E\,k(y, y')`, from 0 to 2.

    With the mean of Gaussian kernels :math:`k(x, y) = \frac1K \sum_k e^{-|x - y|^2 / 2 h_k^2}`. No dimension of an image's
    rows is more than another's: compare features of a network rather than pixels, and scaled columns of tables.

    Args:
        x: samples, ``(N, *event)``, at least two; flattened.
        y: samples, ``(M, *event)``.
        bandwidth: one :math:`h_k` or several, in units of the rows; a half, one and two times the median distance of the
            pooled rows by default. Compare models at one choice: fix it from the data.
        unbiased: leave the pairs of a row with itself out (the U-statistic): 0 on average for samples of one law, so that
            it may be negative. Otherwise the V-statistic, never negative, which is too high by
            :math:`(1/N + 1/M)(1 - E\,k(x, x'))`.

    Raises:
        ValueError: rows that are not finite floats of one shape, fewer than two, a bandwidth that is not above 0, or rows
            most of which are equal and no bandwidth.

    >>> import torch
    >>> x = torch.tensor([[0.0], [1.0]])
    >>> round(squared_mmd(x, x + 9.0, bandwidth=1.0), 4) == round(2 * torch.exp(torch.tensor(-0.5)).item(), 4)
    True
    """
    a, b = flat_pair("x", x, "y", y)
    if bandwidth is None:
        median = median_distance(a, b)
        bandwidths = [multiple * median for multiple in _MEDIANS]
    else:
        bandwidths = [chosen_bandwidth(h) for h in (bandwidth if isinstance(bandwidth, Sequence) else [bandwidth])]
    if not bandwidths:
        raise ValueError("bandwidth must name at least one width, got none; leave it out for the median's")
    return _within(a, bandwidths, unbiased) + _within(b, bandwidths, unbiased) - 2 * _mean_kernel(a, b, bandwidths)


def _within(x: Rows, bandwidths: Sequence[float], unbiased: bool) -> float:
    mean, count = _mean_kernel(x, x, bandwidths), len(x)
    return (mean * count - 1) / (count - 1) if unbiased else mean  # a row's kernel with itself is 1


def _mean_kernel(x: Rows, y: Rows, bandwidths: Sequence[float]) -> float:
    total = 0.0
    for squares in pairwise_distances_chunked(x, y, working_memory=_MEBIBYTES, squared=True):
        total += sum(float(np.exp(squares / (-2 * h * h)).sum()) for h in bandwidths)
    return total / (len(bandwidths) * len(x) * len(y))
