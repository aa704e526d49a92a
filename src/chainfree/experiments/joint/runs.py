"""One classifier, trained with a few labels and judged."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...checks import require_positive_int
from ...engine import TrainingDivergedError
from ...evaluation import ClassifierScores, classifier_scores
from .methods import Fitted, method
from .tasks import Task, labelled_at_random

__all__ = ["ALL", "Run", "ended", "mean_and_deviation", "rate", "require_methods", "trained", "without_temperature"]

ALL = "all"  # in the place of a number of labels


class Run(NamedTuple):
    """What came out of one training.

    Args:
        fitted: the classifier.
        logits: of the judged rows, ``(N, K)``.
        seconds: of fitting.
    """

    fitted: Fitted
    logits: Tensor
    seconds: float


def trained(task: Task, settings: Mapping[str, Any], labels: str, *, balanced: bool, seed: int) -> Run:
    """Fit with ``labels`` labelled rows (a class where ``balanced``), or with all."""
    y = task.y if labels == ALL else labelled_at_random(task.y, int(labels), balanced=balanced, seed=seed)
    started = time.perf_counter()
    fitted = method(settings).fit(task.x, y, classes=task.classes, seed=seed)
    seconds = time.perf_counter() - started
    return Run(fitted, fitted.logits(task.x_judged), seconds)


def without_temperature(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a method is fitted with: the temperature comes after."""
    return {key: value for key, value in settings.items() if key != "temperature"}


def ended(task: Task, settings: Mapping[str, Any], labels: str, *, balanced: bool, seeds: Sequence[int]) -> list[Run]:
    """The runs of all seeds but those that diverge."""
    runs = []
    for seed in seeds:
        try:
            runs.append(trained(task, settings, labels, balanced=balanced, seed=seed))
        except TrainingDivergedError as error:
            print(f"seed {seed}: {error}", flush=True)  # noqa: T201
    return runs


def rate(task: Task, logits: Tensor, temperature: float = 1.0) -> ClassifierScores:
    """Scores of the judged rows."""
    return classifier_scores(logits / temperature, task.y_judged)


def mean_and_deviation(values: Sequence[float]) -> dict[str, Any]:
    """Mean, standard deviation over S - 1 (0 of one seed) and the values."""
    several = torch.tensor(values, dtype=torch.float64)
    deviation = float(several.std()) if len(values) > 1 else 0.0
    return {"mean": float(several.mean()), "std": deviation, "seeds": list(values)}


def require_methods(methods: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    """Raise ``ValueError`` unless these are tables of methods by number of labels."""
    if not methods:
        raise ValueError("methods is empty; give tables [methods.LABELS.NAME]")
    for labels, named in methods.items():
        if labels != ALL:
            if not labels.isdecimal():
                raise ValueError(f"methods are by number of labels or {ALL!r}, got {labels!r}")
            require_positive_int("labels", int(labels))
        if not named:
            raise ValueError(f"methods.{labels} is empty; name one at least")
