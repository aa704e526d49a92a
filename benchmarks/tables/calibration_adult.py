"""Incomes of the census: probabilities that mean what they say, with all labels and with a thousand.

The test rows are the census's own. With a thousand labels, drawn by the seed, ours has the other rows without labels; the
others have their thousand. Nobody's settings are chosen here: ours are the estimator's defaults, the others their libraries',
after standard scaling and one indicator for each category.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score

from benchmarks.common import RESULTS
from benchmarks.tables.classifiers import boosting, logistic_regression
from benchmarks.tables.sets import adult
from chainfree.cli.tables import text_table
from chainfree.estimators import JointEnergyClassifier
from chainfree.evaluation import classifier_scores
from chainfree.experiments import Recorder
from chainfree.threads import use_threads

SEEDS = (0, 1, 2, 3, 4)
LABELS = (1000, None)  # None: all
KEYS = ("accuracy", "ece", "nll", "brier", "auroc")


def main() -> None:
    use_threads(2)
    recorder = Recorder("calibration_adult", "python -m benchmarks.tables.calibration_adult", RESULTS, SEEDS)
    frame, y = adult("train")
    test, y_test = adult("test")
    figures: dict[str, dict[str, dict[str, Any]]] = {key: {} for key in KEYS}
    for labels in LABELS:
        name = "all" if labels is None else str(labels)
        for method, fit in METHODS.items():
            found: dict[str, list[float]] = {key: [] for key in KEYS}
            for seed in SEEDS:
                known = np.random.default_rng(seed).permutation(len(frame))[:labels]
                probabilities = fit(frame, y, known, test, seed)
                logits = torch.from_numpy(np.log(probabilities.clip(1e-12)))
                scores = classifier_scores(logits, torch.from_numpy(y_test))
                for key, value in (*scores._asdict().items(), ("auroc", roc_auc_score(y_test, probabilities[:, 1]))):
                    found[key].append(float(value))
            for key in KEYS:
                spread = statistics.pstdev(found[key])
                figures[key].setdefault(name, {})[method] = {"mean": statistics.mean(found[key]), "std": spread}
            told = "  ".join(f"{key} {statistics.mean(found[key]):.4f}" for key in KEYS)
            print(f"{name} labels, {method}: {told}", flush=True)
    rows = [
        [name, method, *(f"{figures[key][name][method]['mean']:.4f}" for key in KEYS)]
        for name in figures["ece"]
        for method in METHODS
    ]
    print(text_table(["labels", "method", *KEYS], rows))
    print(recorder.write(figures))


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
