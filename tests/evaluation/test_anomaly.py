"""Anomaly scores against scikit-learn and by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from chainfree.evaluation import AnomalyScores, anomaly_scores


def test_they_are_scikit_learn_s_for_tensors_and_arrays() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    score = rng.normal(labels * 1.0, 1.0).round(1)  # with ties
    normal = np.sort(score[labels == 0])
    accepted = normal[int(np.ceil(0.95 * len(normal))) - 1]  # the least threshold that passes 95% of the normal rows
    missed = float((score[labels == 1] <= accepted).mean())
    wanted = AnomalyScores(roc_auc_score(labels, score), average_precision_score(labels, score), pytest.approx(missed))
    assert anomaly_scores(score, labels) == wanted
    assert anomaly_scores(torch.from_numpy(score), torch.from_numpy(labels)) == wanted
    assert anomaly_scores(torch.from_numpy(score), torch.from_numpy(labels).bool()) == wanted


def test_what_is_missed_counts_every_threshold() -> None:
    score = np.tile(np.arange(100.0), 2)  # collinear: scikit-learn would leave all thresholds but the ends out
    assert anomaly_scores(score, np.arange(200) >= 100).missed_at_95 == pytest.approx(0.95)


def test_high_scores_mean_anomalies() -> None:
    labels = np.array([0, 0, 0, 1])
    assert anomaly_scores(np.array([0.1, 0.2, 0.3, 0.9]), labels) == AnomalyScores(1.0, 1.0, 0.0)
    assert anomaly_scores(-np.array([0.1, 0.2, 0.3, 0.9]), labels) == AnomalyScores(0.0, 0.25, 1.0)
    # by hand: the anomaly beats two of three normal rows
    assert anomaly_scores(np.array([0.1, 0.2, 0.9, 0.5]), labels) == AnomalyScores(pytest.approx(2 / 3), 0.5, 1.0)


@pytest.mark.parametrize(
    ("score", "labels", "words"),
    [
        ([0.1, 0.2], [0, 1, 1], "one entry per row"),
        ([[0.1], [0.2]], [[0], [1]], "one entry per row"),
        ([0.1, 0.2], [0, 0], "both 0"),
        ([0.1, 0.2], [1, 1], "both 0"),
        ([0.1, 0.2, 0.3], [0, 1, 2], "both 0"),
        ([0.1, 0.2], [-1, 1], "both 0"),
        ([0.1, np.nan], [0, 1], "NaN or infinite"),
        ([0.1, np.inf], [0, 1], "NaN or infinite"),
    ],
)
def test_what_cannot_be_scored_is_refused(score: Any, labels: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        anomaly_scores(np.array(score), np.array(labels))


def test_energies_with_a_graph_are_scored() -> None:
    energies = torch.tensor([0.1, 0.2, 0.9], requires_grad=True)
    assert anomaly_scores(energies, torch.tensor([0, 0, 1])).auroc == 1.0
