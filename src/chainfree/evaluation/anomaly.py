"""Scores of anomaly detectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from torch import Tensor

__all__ = ["AnomalyScores", "anomaly_scores"]


@dataclass(frozen=True)
class AnomalyScores:
    """How well a score separates anomalies from normal rows.

    Args:
        auroc: area under the ROC curve; 0.5 is chance.
        average_precision: area under the precision-recall curve; the share of anomalies is chance.
        missed_at_95: share of the anomalies that pass where 95% of the normal rows do. With normal rows as the positives,
            as in the literature on rows out of distribution, this is the "FPR at 95% TPR".
    """

    auroc: float
    average_precision: float
    missed_at_95: float


def anomaly_scores(score: Tensor | np.ndarray, labels: Tensor | np.ndarray) -> AnomalyScores:
    """Evaluate a score that is high for anomalies (an energy is one), by scikit-learn.

    Args:
        score: ``(N,)``, finite.
        labels: ``(N,)``, 1 for anomalies and 0 for normal rows; both must occur.

    Raises:
        ValueError: lengths that differ, a score that is not finite, or one kind of rows only.

    >>> anomaly_scores(np.array([0.1, 0.2, 0.9]), np.array([0, 0, 1])).auroc
    1.0
    """
    s, y = _array(score).astype(np.float64), _array(labels)
    if s.shape != y.shape or s.ndim != 1:
        raise ValueError(f"score and labels must have one entry per row, got {s.shape} and {y.shape}")
    if set(np.unique(y)) != {0, 1}:
        raise ValueError(f"labels must hold both 0 (normal) and 1 (anomaly), got {sorted(set(y.tolist()))[:5]}")
    if not np.isfinite(s).all():
        raise ValueError("the score has NaN or infinite entries; was the energy trained on other units?")
    passed_anomalies, passed_normals, _ = roc_curve(1 - y.astype(np.int64), -s, drop_intermediate=False)
    return AnomalyScores(
        auroc=float(roc_auc_score(y, s)),
        average_precision=float(average_precision_score(y, s)),
        missed_at_95=float(passed_anomalies[np.argmax(passed_normals >= 0.95)]),
    )


def _array(values: Tensor | np.ndarray) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
