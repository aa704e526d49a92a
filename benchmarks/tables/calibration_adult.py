"""Incomes of the census: probabilities that mean what they say, with all labels and with a thousand.

The test rows are the census's own. With a thousand labels, drawn by the seed, ours has the other rows without labels; the
others have their thousand. All have their defaults, ours the estimator's, the others their libraries' after standard scaling
and one indicator for each category. Our estimator's start, a sum of piecewise linear functions, was developed on parts of
this census's training rows; the test rows were not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score

from benchmarks.asked import answers, jobs_from_arguments, spread
from benchmarks.common import RESULTS
from benchmarks.tables.classifiers import boosting, logistic_regression
from benchmarks.tables.sets import adult
from chainfree.cli.tables import text_table
from chainfree.estimators import JointEnergyClassifier
from chainfree.evaluation import classifier_scores
from chainfree.experiments import Recorder
from chainfree.threads import use_threads

SEEDS = (0, 1, 2, 3, 4)
LABELS = ("1000", "all")
KEYS = ("accuracy", "ece", "nll", "brier", "auroc")


def main() -> None:
    jobs = jobs_from_arguments(__doc__)
    recorder = Recorder("calibration_adult", "python -m benchmarks.tables.calibration_adult", RESULTS, SEEDS)
    asked = [{"labels": labels, "method": method, "seed": s} for labels in LABELS for s in SEEDS for method in METHODS]
    notes = answers("calibration_adult", answer, asked, jobs=jobs)
    figures: dict[str, dict[str, dict[str, Any]]] = {key: {} for key in KEYS}
    for labels in LABELS:
        for method in METHODS:
            by_seed = [notes[{"labels": labels, "method": method, "seed": seed}] for seed in SEEDS]
            for key in KEYS:
                figures[key].setdefault(labels, {})[method] = spread([found[key] for found in by_seed])
    rows = [
        [labels, method, *(f"{figures[key][labels][method]['mean']:.4f}" for key in KEYS)]
        for labels in LABELS
        for method in METHODS
    ]
    print(text_table(["labels", "method", *KEYS], rows))
    print(recorder.write({**figures, "taken_up": len(asked) - notes.added}))


def answer(question: Mapping[str, Any]) -> dict[str, float]:
    """One method, trained with one draw of labels."""
    use_threads(1)
    frame, y = adult("train")
    test, y_test = adult("test")
    count = len(frame) if question["labels"] == "all" else int(question["labels"])
    known = np.random.default_rng(question["seed"]).permutation(len(frame))[:count]
    probabilities = METHODS[question["method"]](frame, y, known, test, question["seed"])
    logits = torch.from_numpy(np.log(probabilities.clip(1e-12)))
    scores = classifier_scores(logits, torch.from_numpy(y_test))._asdict()
    return {**scores, "auroc": float(roc_auc_score(y_test, probabilities[:, 1]))}


Fit = Callable[[pd.DataFrame, np.ndarray, np.ndarray, pd.DataFrame, int], np.ndarray]


def _ours(frame: pd.DataFrame, y: np.ndarray, known: np.ndarray, test: pd.DataFrame, seed: int) -> np.ndarray:
    labels = np.full(len(y), -1)
    labels[known] = y[known]
    return JointEnergyClassifier(random_state=seed).fit(frame, labels).predict_proba(test)


def _logistic(frame: pd.DataFrame, y: np.ndarray, known: np.ndarray, test: pd.DataFrame, seed: int) -> np.ndarray:
    return np.asarray(logistic_regression().fit(frame.iloc[known], y[known]).predict_proba(test))


def _boosting(frame: pd.DataFrame, y: np.ndarray, known: np.ndarray, test: pd.DataFrame, seed: int) -> np.ndarray:
    return np.asarray(boosting(frame, seed).fit(frame.iloc[known], y[known]).predict_proba(test))


METHODS: dict[str, Fit] = {
    "chainfree": _ours,
    "logistic regression": _logistic,
    "gradient boosting": _boosting,
}


if __name__ == "__main__":
    main()
