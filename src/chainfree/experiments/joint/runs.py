"""One classifier, trained with a few labels and judged."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
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
    "Outcome",
    "Run",
    "by_method",
    "mean_and_deviation",
    "outcome_or_none",
    "rate",
    "require_methods",
    "run_or_none",
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


class Outcome(NamedTuple):
    """A :class:`Run` without its classifier."""

    logits: Tensor
    seconds: float


def trained(task: Task, settings: Mapping[str, Any], labels: str, *, balanced: bool, seed: int) -> Run:
    """Fit with ``labels`` labelled rows (a class where ``balanced``), or with all."""
    y = task.y if labels == ALL else labelled_at_random(task.y, int(labels), balanced=balanced, seed=seed)
    started = time.perf_counter()
    fitted = method(settings).fit(task.x, y, classes=task.classes, seed=seed)
    seconds = time.perf_counter() - started
    return Run(fitted, fitted.logits(task.x_judged), seconds)


def run_or_none(task: Task, settings: Mapping[str, Any], labels: str, balanced: bool, seed: int) -> Run | None:
    """What :func:`trained` gives, or ``None`` where training diverges, which is said."""
    try:
        return trained(task, settings, labels, balanced=balanced, seed=seed)
    except TrainingDivergedError as error:
        print(f"seed {seed}: {error}", flush=True)  # noqa: T201
        return None


def outcome_or_none(task: Task, settings: Mapping[str, Any], labels: str, balanced: bool, seed: int) -> Outcome | None:
    """What :func:`run_or_none` gives without the classifier, which may be large to send to another process."""
    run = run_or_none(task, settings, labels, balanced, seed)
    return None if run is None else Outcome(run.logits, run.seconds)


def by_method(
    ask: Callable[..., Answer | None],
    task: Task,
    methods: Mapping[str, Mapping[str, Mapping[str, Any]]],
    *,
    balanced: bool,
    seeds: Sequence[int],
    jobs: int,
) -> Iterator[tuple[str, str, list[Answer | None]]]:
    """Number of labels, name, and the answers for all seeds, as soon as they are there.

    Args:
        ask: :func:`run_or_none` or :func:`outcome_or_none`.
        jobs: see :func:`chainfree.experiments.joint.jobs.side_by_side`.
    """
    names = [(labels, name) for labels, named in methods.items() for name in named]
    asked = [
        (task, without_temperature(methods[labels][name]), labels, balanced, seed)
        for labels, name in names
        for seed in seeds
    ]
    known: dict[int, Answer | None] = {}
    given = 0
    with closing(side_by_side(ask, asked, jobs=jobs)) as answers:
        for index, answer in answers:
            known[index] = answer
            while all(given * len(seeds) + seed in known for seed in range(len(seeds))):
                yield *names[given], [known.pop(given * len(seeds) + seed) for seed in range(len(seeds))]
                given += 1


def without_temperature(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a method is fitted with: the temperature comes after."""
    return {key: value for key, value in settings.items() if key != "temperature"}


def rate(task: Task, logits: Tensor, temperature: float = 1.0) -> ClassifierScores:
    """Scores of the judged rows."""
    return classifier_scores(logits / temperature, task.y_judged)


def mean_and_deviation(values: Sequence[float | None]) -> dict[str, Any]:
    """Mean and standard deviation over S - 1 (0 of one) of the seeds that ended, and the values, ``None`` of the others."""
    several = torch.tensor([value for value in values if value is not None], dtype=torch.float64)
    deviation = float(several.std()) if len(several) > 1 else 0.0
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
