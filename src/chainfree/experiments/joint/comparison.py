"""Joint energy models beside the classifiers that they have to beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from ... import plotting
from ...evaluation import Reliability, reliability
from ..notes import Notes
from .runs import SCORES, Run, by_method, mean_and_deviation, require_comparison, scores, temperature_of
from .tasks import Task, load_task, require_task

__all__ = ["JointComparison"]


@dataclass(frozen=True, kw_only=True)
class JointComparison:
    """Settings of the experiment. All methods see the same labelled rows; the test rows are scored once, at the end.

    A training that diverges is counted, and its seed is left out of the means. What is found is written down at once: the
    same comparison at the same commit goes on from there.

    Args:
        task: which data.
        methods: by number of labels, or ``"all"``, and by name: ``kind``, the settings of that kind
            (:mod:`chainfree.experiments.joint.methods`), and ``temperature``, by which logits are divided for the scores
            after scaling. All were chosen with a part of the training split held out.
        balanced: whether labels are counted by class.
        seeds: of the labelled rows and of training.
        jobs: trainings at a time, each in a process of its own.
        found: file of what was found so far, JSON lines.
    """

    task: str
    methods: Mapping[str, Mapping[str, Mapping[str, Any]]]
    balanced: bool = True
    seeds: Sequence[int] = (0, 1, 2, 3, 4)
    jobs: int = 1
    found: str = "runs/joint_comparison.jsonl"

    def __post_init__(self) -> None:
        require_task(self.task)
        require_comparison(self.methods, seeds=self.seeds, jobs=self.jobs)

    def run(self) -> tuple[dict[str, Any], Figure]:
        """Figures by score, number of labels and method; reliability diagrams over all seeds."""
        task, notes = load_task(self.task, "test"), Notes(Path(self.found))
        figures: dict[str, Any] = {score: {} for score in SCORES}
        figures |= {
            "after_temperature": {score: {} for score in SCORES},
            "temperature": {},
            "seconds": {},
            "diverged": {},
        }
        panels: dict[str, dict[str, Reliability]] = {"reliability": {}, "reliability_after_temperature": {}}
        figures |= {key: {} for key in panels}
        answers = by_method(
            _judged,
            self.task,
            self.methods,
            about={"experiment": "joint_comparison"},
            balanced=self.balanced,
            seeds=self.seeds,
            jobs=self.jobs,
            notes=notes,
        )
        for labels, name, by_seed in answers:
            self._compare(figures, labels, name, by_seed)
            ended = [found for found in by_seed if found is not None]
            for key, shown in panels.items():
                if ended:
                    bins = _pooled([found[key] for found in ended])
                    shown[f"{name}, {labels}" if len(self.methods) > 1 else name] = bins
                    parts = {part: values.tolist() for part, values in bins._asdict().items()}
                    figures[key].setdefault(labels, {})[name] = parts
        figures["methods"] = {labels: dict(named) for labels, named in self.methods.items()}
        figures["jobs"] = self.jobs
        figures["taken_up"] = len(self.seeds) * sum(map(len, self.methods.values())) - notes.added
        figures["rows"] = {"train": len(task.x), "test": len(task.x_judged)}
        title = f"{self.task}: how sure, and how often right"
        before, after = panels.values()
        return figures, plotting.reliability_diagrams(before, after=after, title=title)

    def _compare(
        self, figures: dict[str, Any], labels: str, name: str, by_seed: Sequence[Mapping[str, Any] | None]
    ) -> None:
        """Puts one method's figures where they belong."""
        diverged = sum(found is None for found in by_seed)
        figures["diverged"].setdefault(labels, {})[name] = diverged
        if diverged == len(by_seed):
            print(f"{self.task}, {labels} labels, {name}: diverged with every seed", flush=True)  # noqa: T201
            return
        for target, scaling in ((figures, "scores"), (figures["after_temperature"], "after_temperature")):
            for score in SCORES:
                values = [None if found is None else found[scaling][score] for found in by_seed]
                target[score].setdefault(labels, {})[name] = mean_and_deviation(values)
        figures["temperature"].setdefault(labels, {})[name] = self.methods[labels][name].get("temperature", 1.0)
        seconds = [None if found is None else found["seconds"] for found in by_seed]
        figures["seconds"].setdefault(labels, {})[name] = mean_and_deviation(seconds)
        plain = {score: figures[score][labels][name] for score in SCORES}
        shown = ", ".join(f"{score} {value['mean']:.4f} +- {value['std']:.4f}" for score, value in plain.items())
        print(f"{self.task}, {labels} labels, {name}: {shown}", flush=True)  # noqa: T201


def _judged(task: Task, run: Run, question: Mapping[str, Any]) -> dict[str, Any]:
    found = scores(task, run, question)
    for key, temperature in (("reliability", 1.0), ("reliability_after_temperature", temperature_of(question))):
        bins = reliability(run.logits / temperature, task.y_judged)
        found[key] = [part.tolist() for part in bins]
    return found


def _pooled(found: Sequence[Sequence[Sequence[float]]]) -> Reliability:
    """The bins of equally many rows each, put together."""
    confidence, accuracy, shares = torch.tensor(found, dtype=torch.float64).unbind(1)
    whole = shares.sum(0).clamp_min(1e-12)
    return Reliability((shares * confidence).sum(0) / whole, (shares * accuracy).sum(0) / whole, shares.mean(0))
