"""The classifiers that come without a network, by scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression as SklearnLogisticRegression
from sklearn.semi_supervised import LabelSpreading as SklearnLabelSpreading
from sklearn.semi_supervised import SelfTrainingClassifier
from torch import Tensor

from ...checks import require_in_unit_interval, require_positive, require_positive_int

__all__ = ["Discriminant", "LabelSpreading", "LogisticRegression"]

_LEAST = 1e-12  # probabilities that round to zero would cost infinitely many nats
_ITERATIONS = 1000
_ROWS_AT_A_TIME = 2000


@dataclass(frozen=True)
class _Probabilities:
    """A fitted scikit-learn classifier."""

    model: Any

    def logits(self, x: Tensor, /) -> Tensor:
        """Log-probabilities up to a constant a row, ``(N, *event) -> (N, K)``.

        From the decisions where the classifier has them, so that rows it is very sure of are still told apart; else from the
        probabilities, none below 1e-12.
        """
        rows = [_rows(part) for part in x.split(_ROWS_AT_A_TIME)]
        if hasattr(self.model, "decision_function"):
            decisions = np.concatenate([self.model.decision_function(part) for part in rows])
            if decisions.ndim == 1:  # of two classes, the second's over the first
                decisions = np.stack([np.zeros_like(decisions), decisions], axis=1)
            return torch.from_numpy(decisions)
        with np.errstate(invalid="ignore"):
            probabilities = np.concatenate([self.model.predict_proba(part) for part in rows])
        # label spreading divides by zero where no label has come: even odds
        probabilities[np.isnan(probabilities).any(1)] = 1 / probabilities.shape[1]
        return torch.from_numpy(np.log(np.clip(probabilities, _LEAST, None)))


@dataclass(frozen=True, kw_only=True)
class LogisticRegression:
    """Logistic regression, and its self-training.

    Args:
        inverse_penalty: scikit-learn's C: the smaller, the smaller the weights.
        self_training: probability from which on an answer becomes a label for the next round (Yarowsky, 1995); ``None``
            for the labelled rows alone.
    """

    inverse_penalty: float = 1.0
    self_training: float | None = None

    def __post_init__(self) -> None:
        require_positive("inverse_penalty", self.inverse_penalty)
        _require_threshold(self.self_training)

    def fit(self, x: Tensor, y: Tensor, *, classes: int, seed: int) -> _Probabilities:
        """See :class:`chainfree.experiments.joint.methods.Method`."""
        model = SklearnLogisticRegression(C=self.inverse_penalty, max_iter=_ITERATIONS, random_state=seed)
        return _fitted(model, x, y, self.self_training)


@dataclass(frozen=True, kw_only=True)
class Discriminant:
    """The linear discriminant with Ledoit-Wolf shrinkage, and its self-training; see :class:`LogisticRegression`."""

    self_training: float | None = None

    def __post_init__(self) -> None:
        _require_threshold(self.self_training)

    def fit(self, x: Tensor, y: Tensor, *, classes: int, seed: int) -> _Probabilities:
        """See :class:`chainfree.experiments.joint.methods.Method`."""
        return _fitted(LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"), x, y, self.self_training)


@dataclass(frozen=True, kw_only=True)
class LabelSpreading:
    """Labels that spread along a graph of nearest neighbours (Zhou et al., NeurIPS 2003).

    Args:
        neighbours: of a row.
        alpha: share of a row's label that comes from its neighbours.
    """

    neighbours: int = 7
    alpha: float = 0.2

    def __post_init__(self) -> None:
        require_positive_int("neighbours", self.neighbours)
        require_in_unit_interval("alpha", self.alpha)

    def fit(self, x: Tensor, y: Tensor, *, classes: int, seed: int) -> _Probabilities:
        """See :class:`chainfree.experiments.joint.methods.Method`."""
        model = SklearnLabelSpreading(
            kernel="knn", n_neighbors=self.neighbours, alpha=self.alpha, max_iter=_ITERATIONS, n_jobs=1
        )
        return _fitted(model, x, y, None, with_others=True)


def _fitted(
    model: ClassifierMixin, x: Tensor, y: Tensor, threshold: float | None, *, with_others: bool = False
) -> _Probabilities:
    if threshold is not None:
        model, with_others = SelfTrainingClassifier(model, threshold=threshold, max_iter=None), True
    used = slice(None) if with_others else y >= 0
    with np.errstate(invalid="ignore"):
        model.fit(_rows(x[used]), y[used].numpy())
    return _Probabilities(model)


def _rows(x: Tensor) -> np.ndarray:
    return x.flatten(1).double().numpy()


def _require_threshold(value: float | None) -> None:
    if value is not None:
        require_in_unit_interval("self_training", value)
