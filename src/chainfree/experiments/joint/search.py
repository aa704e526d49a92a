"""The choice of every method's settings, by rows of the training split that are held out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

from matplotlib.figure import Figure

from ... import plotting
from ...checks import require_positive_int
from ...engine import TrainingDivergedError
from ...evaluation import fit_temperature
from ..checks import require_seeds
from ..notes import Notes
from ..side_by_side import side_by_side
from .methods import method
from .runs import rate, require_methods, trained
from .tasks import TASKS, JudgedOn, Task, load_task, loaded, require_task

__all__ = ["JointSearch"]

_AS_GOOD = 0.005  # of accuracy: with few labels the choice of rows decides more


@dataclass(frozen=True, kw_only=True)
class JointSearch:
    """Settings of the search: as :class:`JointComparison`, and in every method's table a ``grid``.

    A search takes hours, and what is found is written down at once: the same search at the same commit goes on from there.

    Of the candidates whose mean accuracy is within half a point of the best, the one with the least NLL is chosen. Its
    temperature is the median over seeds of those with the least NLL.

    Args:
        task, methods, balanced: as there; several numbers of labels may share a table, as in ``"100,1000"``. ``grid`` names
            lists of values; every combination is a candidate.
        budget: candidates of a method at most.
        found: file of what was found so far, JSON lines.
        seeds: of labelled rows, other than those that are compared in the end.
        jobs: candidates at a time, each in a process of its own.
    """

    task: str
    methods: Mapping[str, Mapping[str, Mapping[str, Any]]]
    balanced: bool = True
    budget: int = 6
    found: str = "runs/joint_search.jsonl"
    seeds: Sequence[int] = (100, 101)
    jobs: int = 1

    def __post_init__(self) -> None:
        require_task(self.task)
        require_seeds(self.seeds)
        require_positive_int("budget", self.budget)
        require_positive_int("jobs", self.jobs)
        for labels, named in by_labels(self.methods).items():
            for name, settings in named.items():
                found = candidates(settings)
                if len(found) > self.budget:
                    raise ValueError(f"methods.{labels}.{name} has {len(found)} candidates, budget is {self.budget}")
                for candidate in found:
                    method(candidate)

    def run(self) -> tuple[dict[str, Any], Figure]:
        """Figures (all candidates' scores, and what was chosen) and a picture of the accuracies."""
        task, notes = load_task(self.task, "validation"), Notes(Path(self.found))
        self._find(notes)
        scored: dict[str, dict[str, list[dict[str, Any]]]] = {}
        chosen: dict[str, dict[str, dict[str, Any]]] = {}
        for labels, named in by_labels(self.methods).items():
            for name, settings in named.items():
                scores = [notes[self._question(labels, candidate)] for candidate in candidates(settings)]
                scored.setdefault(labels, {})[name] = scores
                chosen.setdefault(labels, {})[name] = choice(scores)
        figures = {
            "chosen": chosen,
            "candidates": scored,
            "task": self.task,
            "balanced": self.balanced,
            "jobs": self.jobs,
            "taken_up": sum(len(found) for named in scored.values() for found in named.values()) - notes.added,
            "rows": [len(task.x), len(task.x_judged)],
        }
        return figures, self._picture(scored)

    def _find(self, notes: Notes) -> None:
        """Puts down what is not known yet."""
        missing = [
            (labels, name, candidate)
            for labels, named in by_labels(self.methods).items()
            for name, settings in named.items()
            for candidate in candidates(settings)
            if self._question(labels, candidate) not in notes
        ]
        asked = [
            (TASKS[self.task], candidate, labels, self.balanced, tuple(self.seeds)) for labels, _, candidate in missing
        ]
        with closing(side_by_side(tried, asked, jobs=self.jobs)) as answers:
            for index, found in answers:
                labels, name, candidate = missing[index]
                notes.add(self._question(labels, candidate), found)
                print(f"{self.task}, {labels} labels, {name}: {found}", flush=True)  # noqa: T201

    def _question(self, labels: str, candidate: Mapping[str, Any]) -> dict[str, Any]:
        return {"task": self.task, "labels": labels, "balanced": self.balanced, "seeds": list(self.seeds), **candidate}

    def _picture(self, scored: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]) -> Figure:
        rows = [f"{name}, {labels}" for labels, named in scored.items() for name in named]
        errors = [
            [_error(scores[k]) if k < len(scores) else math.nan for k in range(self.budget)]
            for named in scored.values()
            for scores in named.values()
        ]
        columns = [f"candidate {k + 1}" for k in range(self.budget)]
        return plotting.heat_map(errors, rows=rows, columns=columns, label="error on held-out rows (%)")


def tried(
    load: Callable[[JudgedOn], Task],
    candidate: Mapping[str, Any],
    labels: str,
    balanced: bool,
    seeds: Sequence[int],
) -> dict[str, Any]:
    """Scores of a candidate on the task's held-out rows, on average over seeds, or how it diverged."""
    task = loaded(load, "validation")
    try:
        runs = [trained(task, candidate, labels, balanced=balanced, seed=seed) for seed in seeds]
    except TrainingDivergedError as error:
        return {"settings": dict(candidate), "diverged": str(error).partition("\n")[0]}
    scores = [rate(task, run.logits) for run in runs]
    return {
        "settings": dict(candidate),
        "accuracy": fmean(s.accuracy for s in scores),
        "nll": fmean(s.nll for s in scores),
        "ece": fmean(s.ece for s in scores),
        "temperature": median(fit_temperature(run.logits, task.y_judged) for run in runs),
        "seconds": fmean(run.seconds for run in runs),
    }


def _error(found: Mapping[str, Any]) -> float:
    """In percent, above 0 for a logarithmic scale; NaN where training diverged."""
    return max(100 * (1 - found["accuracy"]), 0.01) if "accuracy" in found else math.nan


def by_labels(methods: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Mapping[str, Any]]]:
    """The methods of every number of labels, where some share a table.

    Raises:
        ValueError: see :func:`chainfree.experiments.joint.runs.require_methods`.
    """
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for shared, named in methods.items():
        for labels in shared.split(","):
            found.setdefault(labels.strip(), {}).update(named)
    require_methods(found)
    return found


def candidates(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every combination of the grid's values with the other settings.

    Raises:
        ValueError: an axis of the grid is no list, or is also set outside.
    """
    fixed = {key: value for key, value in settings.items() if key != "grid"}
    grid = settings.get("grid", {})
    for axis, values in grid.items():
        if not isinstance(values, list) or not values or axis in fixed:
            raise ValueError(f"grid.{axis} must be a list of values and not set beside it, got {values!r}")
    return [fixed | dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def choice(scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The settings to go on with, with their temperature.

    Raises:
        TrainingDivergedError: every candidate diverged.
    """
    done = [found for found in scores if "accuracy" in found]
    if not done:
        raise TrainingDivergedError("every candidate diverged; widen the grid")
    best = max(found["accuracy"] for found in done)
    near = [found for found in done if found["accuracy"] >= best - _AS_GOOD]
    taken = min(near, key=lambda found: float(found["nll"]))
    return {**taken["settings"], "temperature": taken["temperature"]}
