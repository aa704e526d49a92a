"""Self-normalised importance weights."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..checks import require_positive

__all__ = ["Weights", "self_normalised"]


class Weights(NamedTuple):
    """Weights that sum to one.

    Args:
        values: ``(N,)``.
        effective_sample_size: Kish's, from 1 to N, a 0-d tensor.
    """

    values: Tensor
    effective_sample_size: Tensor


def self_normalised(log_weights: Tensor, *, clip: float | None = None) -> Weights:
    r""":math:`w_n = e^{l_n} / \sum_m e^{l_m}`, no weight above ``clip`` times the mean where that is given.

    Args:
        log_weights: ``(N,)``, up to a constant.
        clip: largest weight in units of 1/N, above 1. Bounds the variance for a bias towards the proposal (Ionides, 2008).

    Raises:
        ValueError: ``clip`` of 1 or less.

    >>> self_normalised(torch.tensor([0.0, 0.0])).effective_sample_size
    tensor(2.)
    """
    values = torch.softmax(log_weights, dim=0)
    if clip is not None:
        require_positive("clip", clip)
        if clip <= 1:
            raise ValueError(f"clip is in units of the mean weight and must be above 1, got {clip!r}")
        values = values.clamp_max(clip / len(values))
        values = values / values.sum()
    return Weights(values, values.square().sum().reciprocal())
