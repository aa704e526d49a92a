"""Self-normalised importance weights."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..checks import require_positive

__all__ = ["Weights", "kish", "self_normalised"]


class Weights(NamedTuple):
    """Weights that sum to one.

    Args:
        values: ``(N,)``.
        effective_sample_size: Kish's, from 1 to N, a 0-d tensor.
    """

    values: Tensor
    effective_sample_size: Tensor


def kish(log_weights: Tensor) -> Tensor:
    r"""Kish's effective sample size :math:`(\sum_n w_n)^2 / \sum_n w_n^2` of weights :math:`w = e^l`, ``(N,)``, a 0-d tensor.

    NaN where no weight is above 0.

    >>> kish(torch.tensor([5.0, 5.0, -torch.inf]))
    tensor(2.)
    """
    return _kish(torch.softmax(log_weights, dim=0))


def _kish(shares: Tensor) -> Tensor:
    return shares.square().sum().reciprocal()


def self_normalised(log_weights: Tensor, *, clip: float | None = None) -> Weights:
    r""":math:`w_n = e^{l_n} / \sum_m e^{l_m}`, no weight above ``clip`` times the mean where that is given.

    Args:
        log_weights: ``(N,)``, up to a constant.
        clip: largest weight in units of 1/N, above 1. Bounds the variance for a bias towards the proposal (Ionides, 2008).
            What is cut off goes to the other rows in proportion to their weights, so N over the effective sample size is
            at most ``clip``.

    Raises:
        ValueError: ``clip`` of 1 or less.

    >>> self_normalised(torch.tensor([0.0, 0.0])).effective_sample_size
    tensor(2.)
    """
    if clip is None:
        values = torch.softmax(log_weights, dim=0)
    else:
        require_positive("clip", clip)
        if clip <= 1:
            raise ValueError(f"clip is in units of the mean weight and must be above 1, got {clip!r}")
        values = _capped(log_weights, clip / len(log_weights))
    return Weights(values, _kish(values))


def _capped(log_weights: Tensor, cap: float) -> Tensor:
    """Weights that sum to one with none above ``cap``.

    Cut and divided by their sum, they would pass it again: a single large weight would stay near one.
    """
    # with the k largest at the cap, the others share what is left; the right k is the first that keeps them below it
    most = max(1, math.ceil(1 / cap))
    ordered = log_weights.sort(descending=True).values
    others = ordered.flip(0).logcumsumexp(0).flip(0)[:most]
    left = 1 - cap * torch.arange(len(others), dtype=others.dtype, device=others.device)
    log_scale = left.clamp_min(0).log() - others
    fits = log_scale + ordered[:most] <= math.log(cap)
    log_scale = log_scale[fits.to(torch.uint8).argmax()]
    values = torch.exp(log_weights + log_scale).clamp_max(cap)
    return values / values.sum()  # for rounding errors
