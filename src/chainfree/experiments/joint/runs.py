"""Classifiers trained with a few labels and judged: one, or many by method and seed."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from ...checks import require_positive, require_positive_int
from ...engine import TrainingDivergedError
from ...evaluation import ClassifierScores, classifier_scores
from ..checks import require_seeds
from ..notes import Notes
from ..side_by_side import side_by_side
from .methods import Fitted, method
from .tasks import TASKS, JudgedOn, Task, labelled_at_random, loaded

__all__ = [
    "ALL",
    "SCORES",
    "Judge",
    "Run",
    "by_method",
    "mean_and_deviation",
    "rate",
    "require_comparison",
    "require_methods",
    "scores",
    "temperature_of",
    "trained",
    "without_temperature",
]

ALL = "all"  # in the place of a number of labels
SCORES = ("accuracy", "nll", "brier", "ece")


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


Judge: TypeAlias = Callable[[Task, Run, Mapping[str, Any]], dict[str, Any]]


def trained(task: Task, settings: Mapping[str, Any], labels: str, *, balanced: bool, seed: int) -> Run:
    """Fit with ``labels`` labelled rows (a class where ``balanced``), or with all."""
    y = task.y if labels == ALL else labelled_at_random(task.y, int(labels), balanced=balanced, seed=seed)
    started = time.perf_counter()
    fitted = method(settings).fit(task.x, y, classes=task.classes, seed=seed)
    seconds = time.perf_counter() - started
    return Run(fitted, fitted.logits(task.x_judged), seconds)


def by_method(
    judge: Judge,
    task: str,
    methods: Mapping[str, Mapping[str, Mapping[str, Any]]],
    *,
    about: Mapping[str, Any],
    balanced: bool,
    seeds: Sequence[int],
    jobs: int,
    notes: Notes,
) -> Iterator[tuple[str, str, list[dict[str, Any] | None]]]:
    """Number of labels, name and what ``judge`` finds for all seeds, ``None`` where training diverged.

    Args:
        judge: a function of a module that takes the task, the training and the question: ``about`` with ``task``, ``labels``,
            ``name``, ``settings``, ``balanced`` and ``seed``. What it gives has to be JSON.
        task: its name; its test split is judged.
        about: what else the answers depend on.
        jobs: see :func:`chainfree.experiments.side_by_side.side_by_side`.
        notes: of what was answered before, and what is answered now.
    """
    questions = {
        (labels, name): [
            {
                **about,
                "task": task,
                "labels": labels,
                "name": name,
                "settings": dict(settings),
                "balanced": balanced,
                "seed": seed,
            }
            for seed in seeds
        ]
        for labels, named in methods.items()
        for name, settings in named.items()
    }
    missing = [question for asked in questions.values() for question in asked if question not in notes]
    waiting = deque(questions.items())
    with closing(side_by_side(_answer, [(judge, TASKS[task], question) for question in missing], jobs=jobs)) as answers:
        for index, answer in chain([(-1, {})], answers):  # first what is known already
            if index >= 0:
                notes.add(missing[index], answer)
            while waiting and all(question in notes for question in waiting[0][1]):
                (labels, name), asked = waiting.popleft()
                found = [notes[question] for question in asked]
                yield labels, name, [None if "diverged" in one else one for one in found]


def _answer(judge: Judge, load: Callable[[JudgedOn], Task], question: Mapping[str, Any]) -> dict[str, Any]:
    task = loaded(load, "test")
    settings, labels, balanced, seed = (question[key] for key in ("settings", "labels", "balanced", "seed"))
    try:
        run = trained(task, without_temperature(settings), labels, balanced=balanced, seed=seed)
    except TrainingDivergedError as error:
        message = str(error).partition("\n")[0]
        print(f"{question['name']}, seed {seed}: {message}", flush=True)  # noqa: T201
        return {"diverged": message}
    return judge(task, run, question)


def without_temperature(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a method is fitted with: the temperature comes after."""
    return {key: value for key, value in settings.items() if key != "temperature"}


def rate(task: Task, logits: Tensor, temperature: float = 1.0) -> ClassifierScores:
    """Scores of the judged rows."""
    return classifier_scores(logits / temperature, task.y_judged)


def scores(task: Task, run: Run, question: Mapping[str, Any]) -> dict[str, Any]:
    """Scores of the judged rows before and after scaling by the temperature of the settings, and the seconds of fitting."""
    return {
        "scores": rate(task, run.logits)._asdict(),
        "after_temperature": rate(task, run.logits, temperature_of(question))._asdict(),
        "seconds": run.seconds,
    }


def temperature_of(question: Mapping[str, Any]) -> float:
    """What logits are divided by for the scores after scaling."""
    return float(question["settings"].get("temperature", 1.0))


def mean_and_deviation(values: Sequence[float | None]) -> dict[str, Any]:
    """Mean and standard deviation over S - 1 (0 of one) of the seeds that ended, and the values, ``None`` of the others."""
    several = torch.tensor([value for value in values if value is not None], dtype=torch.float64)
    deviation = float(several.std()) if len(several) > 1 else 0.0
    return {"mean": float(several.mean()), "std": deviation, "seeds": list(values)}


def require_comparison(
    methods: Mapping[str, Mapping[str, Mapping[str, Any]]], *, seeds: Sequence[int], jobs: int
) -> None:
    """Raise ``ValueError`` unless these can be compared: every method in its own settings' ranges, with a temperature."""
    require_seeds(seeds)
    require_positive_int("jobs", jobs)
    require_methods(methods)
    for named in methods.values():
        for settings in named.values():
            method(without_temperature(settings))
            require_positive("temperature", settings.get("temperature", 1.0))


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
