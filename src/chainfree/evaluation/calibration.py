"""Whether a classifier's probabilities mean what they say.

Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, arXiv 1706.04599.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional

from ..checks import require_finite, require_positive_int

__all__ = ["ClassifierScores", "Reliability", "classifier_scores", "fit_temperature", "reliability"]

_COLDEST, _HOTTEST = 1e-2, 1e3


class Reliability(NamedTuple):
    """Rows by their largest probability, in bins of equal width.

    Args:
        confidence: mean of it in each bin, ``(bins,)``; 0 where a bin is empty.
        accuracy: share of right answers, ``(bins,)``; 0 where a bin is empty.
        shares: of the rows, ``(bins,)``.
    """

    confidence: Tensor
    accuracy: Tensor
    shares: Tensor

    @property
    def expected_error(self) -> float:
        """Expected calibration error: the mean over rows of how far their bin's confidence is from its accuracy."""
        return float((self.shares * (self.confidence - self.accuracy).abs()).sum())


class ClassifierScores(NamedTuple):
    """What a classifier is judged by.

    Args:
        accuracy: share of right answers.
        nll: mean negative log-probability of the right class, in nats.
        brier: mean squared distance of the probabilities from the right class's, over all classes: from 0 to 2.
        ece: expected calibration error.
    """

    accuracy: float
    nll: float
    brier: float
    ece: float


def reliability(logits: Tensor, y: Tensor, *, bins: int = 15) -> Reliability:
    """How often answers are right, by how sure they are.

    Args:
        logits: ``(N, K)``.
        y: right classes, ``(N,)``.
        bins: of equal width from 0 to 1; a row at an edge belongs to the bin below.

    Raises:
        ValueError: shapes that do not fit, no rows, classes that are none, logits that are not finite, ``bins`` below 1.
    """
    require_positive_int("bins", bins)
    _require_classified(logits, y)
    confidence, answer = torch.softmax(logits.double(), dim=1).max(1)
    bin_of = (confidence * bins).ceil().long().clamp(1, bins) - 1
    counts = torch.bincount(bin_of, minlength=bins).double()
    most = counts.clamp_min(1)
    right = (answer == y).double()
    return Reliability(
        torch.bincount(bin_of, confidence, bins) / most,
        torch.bincount(bin_of, right, bins) / most,
        counts / len(y),
    )


def classifier_scores(logits: Tensor, y: Tensor, *, bins: int = 15) -> ClassifierScores:
    """Accuracy, NLL, Brier score and calibration error; see :func:`reliability` for arguments and errors."""
    logits = logits.detach()
    calibration = reliability(logits, y, bins=bins)
    y = y.long()
    log_probs = torch.log_softmax(logits.double(), dim=1)
    right = functional.one_hot(y, logits.shape[1]).double()
    return ClassifierScores(
        accuracy=float((logits.argmax(1) == y).double().mean()),
        nll=float(functional.nll_loss(log_probs, y)),
        brier=float((log_probs.exp() - right).square().sum(1).mean()),
        ece=calibration.expected_error,
    )


def fit_temperature(logits: Tensor, y: Tensor) -> float:
    """The T for which ``logits / T`` have the least NLL on these rows, which must not be the ones that are judged.

    Args:
        logits: of held-out rows, ``(N, K)``.
        y: their classes, ``(N,)``.

    Returns:
        T from 0.01 to 1000: at the lower end where every row is right, and more certainty costs nothing.

    Raises:
        ValueError: as :func:`reliability`.
    """
    _require_classified(logits, y)
    values, y = logits.double(), y.long()

    def nll(log_temperature: float) -> float:
        return float(functional.cross_entropy(values / math.exp(log_temperature), y))

    coldest, hottest = math.log(_COLDEST), math.log(_HOTTEST)
    found = minimize_scalar(nll, bounds=(coldest, hottest), method="bounded")
    # where every row is right the NLL is 0 to the last digit from some T down, and the search ends anywhere in that
    return _COLDEST if nll(coldest) <= found.fun else math.exp(float(found.x))


def _require_classified(logits: Tensor, y: Tensor) -> None:
    if logits.dim() != 2 or not len(logits) or y.shape != logits.shape[:1] or y.is_floating_point():
        raise ValueError(
            f"logits must be (N, K) and y whole numbers (N,), got {tuple(logits.shape)} and {y.dtype} of {tuple(y.shape)}"
        )
    require_finite("logits", logits)
    if bool((logits >= 0).all()) and torch.allclose(logits.sum(1), logits.new_ones(len(logits)), atol=1e-4):
        raise ValueError("these are probabilities; give logits, or the probabilities' logarithms")
    if int(y.min()) < 0 or int(y.max()) >= logits.shape[1]:
        raise ValueError(f"y must be classes from 0 to {logits.shape[1] - 1}; leave rows without a label out")
