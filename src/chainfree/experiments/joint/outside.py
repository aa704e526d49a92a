"""Rows that no classifier was trained for: which scores tell them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ... import plotting
from ...datasets import load_mnist
from ...evaluation import anomaly_scores, max_probability_score, outlier_scores
from ...samplers import resample_class
from ..notes import Notes
from .methods import Fitted
from .networks import FittedNetwork
from .normal_classes import FittedClasses
from .runs import SCORES, Run, by_method, mean_and_deviation, require_comparison, scores
from .tasks import IMAGES, Task, require_task

__all__ = ["OUTSIDE", "JointOutside"]

_SHOWN = 12  # samples of each class in the picture
_DRAWS = 4000  # of the marginal that they are chosen from
_TOLD = ("auroc", "average_precision", "missed_at_95")


def _digits(task: Task) -> Tensor:
    return load_mnist("test").x.float() / 127.5 - 1


def _noise(task: Task) -> Tensor:
    return torch.rand(task.x_judged.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def _normal_noise(task: Task) -> Tensor:
    """As wide as the data, pixel by pixel."""
    source = torch.Generator().manual_seed(1)
    drawn = torch.randn(task.x_judged.shape, generator=source) * task.x.std(0) + task.x.mean(0)
    return drawn.clamp(-1, 1)


OUTSIDE: dict[str, Callable[[Task], Tensor]] = {
    "mnist": _digits,
    "uniform noise": _noise,
    "normal noise": _normal_noise,
}


@dataclass(frozen=True, kw_only=True)
class JointOutside:
    """Settings of the experiment. The test rows of what lies outside are scored here alone.

    Args:
        task: images that are learned from.
        outside: names of images that are not.
        methods: by number of labels and name, as in :class:`JointComparison`. Rows are told by energy and slope where a
            method has a density, by the largest class probability everywhere.
        balanced: as there.
        samples_of: the method with a generator whose samples of every class are the picture.
        seeds: of training.
        jobs, found: as there.
    """

    task: str
    outside: Sequence[str]
    methods: Mapping[str, Mapping[str, Mapping[str, Any]]]
    samples_of: str
    balanced: bool = True
    seeds: Sequence[int] = (0, 1, 2)
    jobs: int = 1
    found: str = "runs/joint_outside.jsonl"

    def __post_init__(self) -> None:
        require_task(self.task, images=True)
        require_comparison(self.methods, seeds=self.seeds, jobs=self.jobs)
        if "mnist" in self.outside and IMAGES[self.task] != (1, 28, 28):
            raise ValueError(f"mnist has other images than {self.task}; leave it out of outside")
        if not self.outside or not set(self.outside) <= set(OUTSIDE):
            raise ValueError(f"outside must be some of {', '.join(OUTSIDE)}, got {list(self.outside)!r}")
        shown = [named[self.samples_of] for named in self.methods.values() if self.samples_of in named]
        if not shown or shown[0].get("marginal") not in ("vera", "meg"):
            raise ValueError(f"samples_of must be a method with a generator, by vera or meg, got {self.samples_of!r}")

    def run(self) -> tuple[dict[str, Any], Figure]:
        """Figures (accuracy, calibration, and by score how rows outside are told) and samples of every class."""
        notes = Notes(Path(self.found))
        figures: dict[str, Any] = {key: {} for key in (*SCORES, "after_temperature", "seconds", "diverged", *_TOLD)}
        drawn = torch.zeros(0)
        answers = by_method(
            _judged,
            self.task,
            self.methods,
            about={
                "experiment": "joint_outside",
                "outside": list(self.outside),
                "samples_of": self.samples_of,
            },
            balanced=self.balanced,
            seeds=self.seeds,
            jobs=self.jobs,
            notes=notes,
        )
        for labels, name, by_seed in answers:
            label = name if len(self.methods) == 1 else f"{name}, {labels}"
            figures["diverged"][label] = sum(found is None for found in by_seed)
            if figures["diverged"][label] == len(by_seed):
                continue
            for key in SCORES:
                figures[key][label] = _over(by_seed, "scores", key)
                figures["after_temperature"].setdefault(key, {})[label] = _over(by_seed, "after_temperature", key)
            figures["seconds"][label] = _over(by_seed, "seconds")
            self._told(figures, label, by_seed)
            if name == self.samples_of and not len(drawn):
                drawn = torch.tensor(next(found["samples"] for found in by_seed if found is not None)).float()
        figures["jobs"] = self.jobs
        figures["taken_up"] = len(self.seeds) * sum(map(len, self.methods.values())) - notes.added
        figures["methods"] = {labels: dict(named) for labels, named in self.methods.items()}
        title = f"Generator's samples by class: {self.samples_of.replace('_', ' ')}"
        if not len(drawn):  # every seed diverged
            drawn = torch.zeros(1, *IMAGES[self.task])
        return figures, plotting.image_grid(drawn, columns=_SHOWN, low=0.0, high=255.0, title=title)

    def _told(self, figures: dict[str, Any], label: str, by_seed: Sequence[Mapping[str, Any] | None]) -> None:
        for name in self.outside:
            first = next(found for found in by_seed if found is not None)
            for score in first["told"][name]:
                for key in _TOLD:
                    found = _over(by_seed, "told", name, score, key)
                    figures[key].setdefault(name, {}).setdefault(score, {})[label] = found
                told = figures["auroc"][name][score][label]["mean"]
                print(f"{label}, {name} by {score}: AUROC {told:.4f}", flush=True)  # noqa: T201


def _over(by_seed: Sequence[Mapping[str, Any] | None], *path: str) -> dict[str, Any]:
    """What lies at this path of every seed's answer."""
    values: list[Any] = [None if found is None else reduce(getitem, path, found) for found in by_seed]
    return mean_and_deviation(values)


def _judged(task: Task, run: Run, question: Mapping[str, Any]) -> dict[str, Any]:
    inside, told = _scores(run.fitted, task.x_judged, run.logits), {}
    for name in question["outside"]:
        outside = _scores(run.fitted, OUTSIDE[name](task))
        told[name] = {score: _told(inside[score], outside[score]) for score in inside}
    answer = {**scores(task, run, question), "told": told}
    if question["name"] == question["samples_of"]:
        assert isinstance(run.fitted, FittedNetwork)  # __post_init__ has looked
        answer["samples"] = _samples(run.fitted, task.classes).tolist()
    return answer


def _told(inside: Tensor, outside: Tensor) -> dict[str, float]:
    found = anomaly_scores(torch.cat([inside, outside]), torch.arange(len(inside) + len(outside)) >= len(inside))
    return {key: getattr(found, key) for key in _TOLD}


def _scores(fitted: Fitted, x: Tensor, logits: Tensor | None = None) -> dict[str, Tensor]:
    """By name; what has no density of rows has one only, from its logits."""
    if isinstance(fitted, FittedNetwork):
        return outlier_scores(fitted.energy, fitted.coordinates(x))._asdict()
    if isinstance(fitted, FittedClasses):
        return outlier_scores(fitted.energy, x)._asdict()
    return {"max_probability": max_probability_score(fitted.logits(x) if logits is None else logits)}


def _samples(network: FittedNetwork, classes: int) -> Tensor:
    """Images of every class, ``(K * 12, C, H, W)``, of bytes; black where the generator has hardly any of a class."""
    assert network.generator is not None  # __post_init__ has looked
    source = torch.Generator().manual_seed(0)
    net = network.generator.eval()
    net.recalibrate(256, generator=source)
    with torch.no_grad():
        draws = net.sample(_DRAWS, generator=source).x
        shares = network.energy.class_log_probs(draws).exp().sum(0)
    black = torch.full_like(draws[:_SHOWN], -1)
    images = [
        resample_class(network.energy, draws, y, _SHOWN, generator=source).x if shares[y] > 1 else black
        for y in range(classes)
    ]
    return ((torch.cat(images) + 1) * 127.5).round().clamp(0, 255).byte()
