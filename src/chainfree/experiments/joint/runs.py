"""One classifier, trained with a few labels and judged."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from ...checks import require_positive_int
from ...engine import TrainingDivergedError
from ...evaluation import ClassifierScores, classifier_scores
from .jobs import side_by_side
from .methods import Fitted, method
from .tasks import Task, labelled_at_random

__all__ = [
    "ALL",
    "Judged",
    "Run",
    "by_method",
    "ended",
    "judged",
    "mean_and_deviation",
    "rate",
    "require_methods",
    "trained",
    "without_temperature",
]

Answer = TypeVar("Answer")

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


class Judged(NamedTuple):
    """What there is to compare of a training; see :class:`Run`."""

    logits: Tensor
    seconds: float


def trained(task: Task, settings: Mapping[str, Any], labels: str, *, balanced: bool, seed: int) -> Run:
    """Fit with ``labels`` labelled rows (a class where ``balanced``), or with all."""
    y = task.y if labels == ALL else labelled_at_random(task.y, int(labels), balanced=balanced, seed=seed)
    started = time.perf_counter()
    fitted = method(settings).fit(task.x, y, classes=task.classes, seed=seed)
    seconds = time.perf_counter() - started
    return Run(fitted, fitted.logits(task.x_judged), seconds)


def judged(task: Task, settings: Mapping[str, Any], labels: str, balanced: bool, seed: int) -> Judged | None:
    """The same without the classifier, which may be large to send to another process."""
    run = ended(task, settings, labels, balanced, seed)
    return None if run is None else Judged(run.logits, run.seconds)


def by_method(
    ask: Callable[..., Answer | None],
    task: Task,
    methods: Mapping[str, Mapping[str, Mapping[str, Any]]],
    *,
    balanced: bool,
    seeds: Sequence[int],
    jobs: int,
) -> Iterator[tuple[str, str, list[Answer]]]:
    """Number of labels, name, and the answers for all seeds that ended, as soon as they are there.

    Args:
        ask: :func:`ended` or :func:`judged`.
        jobs: see :func:`chainfree.experiments.joint.jobs.side_by_side`.
    """
    names = [(labels, name) for labels, named in methods.items() for name in named]
    asked = [
        (task, without_temperature(methods[labels][name]), labels, balanced, seed)
        for labels, name in names
        for seed in seeds
    ]
    answers = side_by_side(ask, asked, jobs=jobs)
    for labels, name in names:
        yield labels, name, [run for run in itertools.islice(answers, len(seeds)) if run is not None]


def without_temperature(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a method is fitted with: the temperature comes after."""
    return {key: value for key, value in settings.items() if key != "temperature"}


def ended(task: Task, settings: Mapping[str, Any], labels: str, balanced: bool, seed: int) -> Run | None:
    """The same, or ``None`` where training diverges, which is said."""
    try:
        return trained(task, settings, labels, balanced=balanced, seed=seed)
    except TrainingDivergedError as error:
        print(f"seed {seed}: {error}", flush=True)  # noqa: T201
        return None


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
