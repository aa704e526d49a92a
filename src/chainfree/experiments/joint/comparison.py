"""Joint energy models beside the classifiers that they have to beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.figure import Figure

from ... import plotting
from ...checks import require_positive, require_positive_int
from ...evaluation import reliability
from ..checks import require_seeds
from .methods import method
from .runs import Outcome, by_method, mean_and_deviation, outcome_or_none, rate, require_methods, without_temperature
from .tasks import Task, load_task, require_task

__all__ = ["JointComparison"]

_SCORES = ("accuracy", "nll", "brier", "ece")


@dataclass(frozen=True, kw_only=True)
class JointComparison:
    """Settings of the experiment. All methods see the same labelled rows; the test rows are scored once, at the end.

    A training that diverges is counted, and its seed is left out of the means.

    Args:
        task: which data.
        methods: by number of labels, or ``"all"``, and by name: ``kind``, the settings of that kind
            (:mod:`chainfree.experiments.joint.methods`), and ``temperature``, by which logits are divided for the scores
            after scaling. All were chosen with a part of the training split held out.
        balanced: whether labels are counted by class.
        seeds: of the labelled rows and of training.
        jobs: trainings at a time, each in a process of its own.
    """

    task: str
    methods: Mapping[str, Mapping[str, Mapping[str, Any]]]
    balanced: bool = True
    seeds: Sequence[int] = (0, 1, 2, 3, 4)
    jobs: int = 1

    def __post_init__(self) -> None:
        require_task(self.task)
        require_seeds(self.seeds)
        require_positive_int("jobs", self.jobs)
        require_methods(self.methods)
        for named in self.methods.values():
            for settings in named.values():
                method(without_temperature(settings))
                require_positive("temperature", settings.get("temperature", 1.0))

    def run(self) -> tuple[dict[str, Any], Figure]:
        """Figures by score, number of labels and method; reliability diagrams over all seeds."""
        task = load_task(self.task, "test")
        figures: dict[str, Any] = {score: {} for score in _SCORES}
        figures |= {
            "after_temperature": {score: {} for score in _SCORES},
            "temperature": {},
            "seconds": {},
            "diverged": {},
        }
        panels = {}
        answers = by_method(
            outcome_or_none, task, self.methods, balanced=self.balanced, seeds=self.seeds, jobs=self.jobs
        )
        for labels, name, outcomes in answers:
            self._compare(figures, task, labels, name, outcomes)
            ended = [outcome.logits.double() for outcome in outcomes if outcome is not None]
            if ended:
                title = f"{name}, {labels}" if len(self.methods) > 1 else name
                panels[title] = reliability(torch.cat(ended), task.y_judged.repeat(len(ended)))
        figures["methods"] = {labels: dict(named) for labels, named in self.methods.items()}
        figures["jobs"] = self.jobs
        figures["rows"] = {"train": len(task.x), "test": len(task.x_judged)}
        return figures, plotting.reliability_diagrams(panels, title=f"{self.task}: how sure, and how often right")

    def _compare(
        self, figures: dict[str, Any], task: Task, labels: str, name: str, outcomes: Sequence[Outcome | None]
    ) -> None:
        """Puts one method's figures where they belong."""
        diverged = sum(outcome is None for outcome in outcomes)
        figures["diverged"].setdefault(labels, {})[name] = diverged
        if diverged == len(outcomes):
            print(f"{self.task}, {labels} labels, {name}: diverged with every seed", flush=True)  # noqa: T201
            return
        temperature = self.methods[labels][name].get("temperature", 1.0)
        for target, divisor in ((figures, 1.0), (figures["after_temperature"], temperature)):
            rates = [None if outcome is None else rate(task, outcome.logits, divisor) for outcome in outcomes]
            for score in _SCORES:
                values = [None if found is None else getattr(found, score) for found in rates]
                target[score].setdefault(labels, {})[name] = mean_and_deviation(values)
        figures["temperature"].setdefault(labels, {})[name] = temperature
        seconds = [None if outcome is None else outcome.seconds for outcome in outcomes]
        figures["seconds"].setdefault(labels, {})[name] = mean_and_deviation(seconds)
        plain = {score: figures[score][labels][name] for score in _SCORES}
        shown = ", ".join(f"{score} {value['mean']:.4f} +- {value['std']:.4f}" for score, value in plain.items())
        print(f"{self.task}, {labels} labels, {name}: {shown}", flush=True)  # noqa: T201
