"""Rows that no classifier was trained for: which scores tell them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ... import plotting
from ...datasets import load_mnist
from ...engine import TrainingDivergedError
from ...evaluation import OutlierScores, anomaly_scores, outlier_scores
from ...samplers import resample_class
from ..checks import require_seeds
from .comparison import JointComparison
from .networks import FittedNetwork
from .runs import by_method, mean_and_deviation, rate, run_or_none
from .tasks import IMAGES, Task, load_task, require_task

__all__ = ["OUTSIDE", "JointOutside"]

_SHOWN = 12  # samples of each class in the picture
_DRAWS = 4000  # of the marginal that they are chosen from


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
    """Settings of the experiment. Nothing outside the training data is seen before the end.

    Args:
        task: images that are learned from.
        outside: names of images that are not.
        methods: networks, by number of labels and name, as in :class:`JointComparison`.
        balanced: as there.
        samples_of: the method with a generator whose samples of every class are the picture.
        seeds: of training.
        jobs: as there.
    """

    task: str
    outside: Sequence[str]
    methods: Mapping[str, Mapping[str, Mapping[str, Any]]]
    samples_of: str
    balanced: bool = True
    seeds: Sequence[int] = (0, 1, 2)
    jobs: int = 1

    def __post_init__(self) -> None:
        JointComparison(task=self.task, methods=self.methods, balanced=self.balanced, seeds=self.seeds, jobs=self.jobs)
        require_seeds(self.seeds)
        require_task(self.task, images=True)
        if "mnist" in self.outside and IMAGES[self.task] != (1, 28, 28):
            raise ValueError(f"mnist has other images than {self.task}; leave it out of outside")
        if not self.outside or not set(self.outside) <= set(OUTSIDE):
            raise ValueError(f"outside must be some of {', '.join(OUTSIDE)}, got {list(self.outside)!r}")
        for named in self.methods.values():
            for name, settings in named.items():
                if settings["kind"] != "network":
                    raise ValueError(f"{name} is a {settings['kind']}; only networks have energies")
        shown = [named[self.samples_of] for named in self.methods.values() if self.samples_of in named]
        if not shown or shown[0].get("marginal") not in ("vera", "meg"):
            raise ValueError(f"samples_of must be a method with a generator, by vera or meg, got {self.samples_of!r}")

    def run(self) -> tuple[dict[str, Any], Figure]:
        """Figures (accuracy, calibration, and by score how rows outside are told) and samples of every class."""
        task = load_task(self.task, "test")
        others = {name: OUTSIDE[name](task) for name in self.outside}
        figures: dict[str, Any] = {key: {} for key in ("accuracy", "ece", "nll", "brier", "seconds", "diverged")}
        figures |= {"auroc": {}, "average_precision": {}, "missed_at_95": {}}
        picture: Figure | None = None
        answers = by_method(run_or_none, task, self.methods, balanced=self.balanced, seeds=self.seeds, jobs=self.jobs)
        for labels, name, by_seed in answers:
            label = name if len(self.methods) == 1 else f"{name}, {labels}"
            runs = [run for run in by_seed if run is not None]
            figures["diverged"][label] = len(by_seed) - len(runs)
            if not runs:
                continue
            fitted = [run.fitted for run in runs]
            rates = [rate(task, run.logits) for run in runs]
            for key in ("accuracy", "ece", "nll", "brier"):
                figures[key][label] = mean_and_deviation([getattr(found, key) for found in rates])
            figures["seconds"][label] = mean_and_deviation([run.seconds for run in runs])
            self._told(figures, label, task, others, fitted)
            if name == self.samples_of and picture is None:
                picture = _samples(fitted[0], task.classes, label)
        if picture is None:
            raise TrainingDivergedError(f"{self.samples_of} diverged with every seed; lower its learning rate")
        figures["jobs"] = self.jobs
        figures["methods"] = {labels: dict(named) for labels, named in self.methods.items()}
        return figures, picture

    def _told(
        self, figures: dict[str, Any], label: str, task: Task, others: Mapping[str, Tensor], fitted: Sequence[Any]
    ) -> None:
        inside = [_scores(network, task.x_judged) for network in fitted]
        for name, rows in others.items():
            outside = [_scores(network, rows) for network in fitted]
            for score in OutlierScores._fields:
                found = [
                    anomaly_scores(
                        torch.cat([getattr(a, score), getattr(b, score)]),
                        torch.arange(len(a[0]) + len(b[0])) >= len(a[0]),
                    )
                    for a, b in zip(inside, outside, strict=True)
                ]
                for key in ("auroc", "average_precision", "missed_at_95"):
                    values = mean_and_deviation([getattr(one, key) for one in found])
                    figures[key].setdefault(name, {}).setdefault(score, {})[label] = values
                print(  # noqa: T201
                    f"{label}, {name} by {score}: AUROC {figures['auroc'][name][score][label]['mean']:.4f}", flush=True
                )


def _scores(network: FittedNetwork, x: Tensor) -> OutlierScores:
    return outlier_scores(network.energy, network.coordinates(x))


def _samples(network: Any, classes: int, label: str) -> Figure:
    assert isinstance(network, FittedNetwork) and network.generator is not None  # __post_init__ has looked
    source = torch.Generator().manual_seed(0)
    net = network.generator.eval()
    net.recalibrate(256, generator=source)
    with torch.no_grad():
        draws = net.sample(_DRAWS, generator=source).x
    rows = [resample_class(network.energy, draws, y, _SHOWN, generator=source).x for y in range(classes)]
    title = f"Samples of each class by {label.replace('_', ' ')}"
    return plotting.image_grid(torch.cat(rows), columns=_SHOWN, low=-1.0, high=1.0, title=title)
