"""Logistic regression with a penalty that few labels can choose."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RepeatedStratifiedKFold

__all__ = ["chosen_penalty", "logistic_regression"]

_PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # scikit-learn's C, from strong to weak
_PARTS = 5
_MOST_TURNS, _LABELS_OF_TURNS = (
    3,
    3000,
)  # of the division into parts, in each of which few labels choose another penalty
_MANY_LABELS = 5000
_LEAST_LOG = float(np.log(np.finfo(np.float64).eps))


def logistic_regression(features: NDArray[np.float64], labels: NDArray[np.int64], penalty: float) -> LogisticRegression:
    """Fitted to rows ``(N, F)`` and their classes 0, 1, ..."""
    return LogisticRegression(C=penalty, max_iter=1000).fit(features, labels)


def chosen_penalty(features: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """scikit-learn's C by the likelihood of parts that are left out in turn.

    1 where there are more than 5,000 labels and it matters little, 0.1 where a class has a single row.
    """
    if len(labels) > _MANY_LABELS:
        return 1.0
    parts = min(_PARTS, int(np.bincount(labels).min()))
    if parts < 2:
        return 0.1
    turns = max(1, min(_MOST_TURNS, _LABELS_OF_TURNS // len(labels)))
    loss = np.zeros(len(_PENALTIES))
    for kept, left_out in RepeatedStratifiedKFold(n_splits=parts, n_repeats=turns, random_state=0).split(
        features, labels
    ):
        model = LogisticRegression(max_iter=1000, warm_start=True)  # each from the stronger penalty's solution
        for place, penalty in enumerate(_PENALTIES):
            model.set_params(C=penalty).fit(features[kept], labels[kept])
            logits = model.decision_function(features[left_out])
            if logits.ndim == 1:  # of two classes, the second's over the first's
                logits = np.stack([np.zeros(len(logits)), logits], 1)
            of_class = log_softmax(logits, 1)[np.arange(len(left_out)), labels[left_out]]
            loss[place] -= of_class.clip(min=_LEAST_LOG).sum()  # one far row is not all
    return _PENALTIES[int(loss.argmin())]
