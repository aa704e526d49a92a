"""Digits that no model has seen, told by how unlikely it finds them.

The protocol of the latent energy papers: one digit of MNIST is left out of training in turn; on the test split, it is the
anomaly. Kumar et al., arXiv 1901.08508, section 5.3; Pang et al., NeurIPS 2020, arXiv 2006.08205, section 4.4; Schroeder et
al., NeurIPS 2023, arXiv 2307.06431, section 5.4.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ... import plotting
from ...batches import batches
from ...checks import require_positive, require_positive_int
from ...datasets import scaled_pixels
from ...energies import ConvNet
from ...engine import Cosine, Engine, OptimizerSettings, TrainingDivergedError
from ...engine.callbacks import Callback
from ...evaluation import anomaly_scores
from ...generators import ConvCritic, DeconvGenerator
from ...latent import LatentScores
from ...objectives import MEG
from ..checks import require_each, require_seeds
from ..devices import torch_device
from ..notes import Notes
from ..side_by_side import side_by_side
from ..timed_fit import steps_within
from .methods import LatentNetworks, latent_methods
from .runs import Schedule, images_for, require_data, settings_of, trained

__all__ = ["LatentAnomaly", "PixelGame"]

_GAME = "meg"  # the method that is no latent model
_SCORES = LatentScores._fields


@dataclass(frozen=True, kw_only=True)
class PixelGame:
    """MEG on the images themselves: :class:`chainfree.objectives.MEG`.

    Args:
        widths: channels of the energy's and the critic's convolutions.
        generator_widths: of the generator's.
        latent: features of its latents.
        entropy_weight, gradient_penalty: see there.
        lr: of Adam with betas 0.5 and 0.9, falling along a cosine.
    """

    widths: Sequence[int] = (32, 64, 128)
    generator_widths: Sequence[int] = (64, 32)
    latent: int = 32
    entropy_weight: float = 1.0
    gradient_penalty: float = 0.1
    lr: float = 3e-4

    def __post_init__(self) -> None:
        for name in ("entropy_weight", "gradient_penalty", "lr"):
            require_positive(name, getattr(self, name))
        require_positive_int("latent", self.latent)

    def energies(self, x: Tensor, judged: Tensor, schedule: Schedule, *, seed: int) -> tuple[Tensor, float]:
        """Train on images ``(N, C, H, W)``; the energies of those to be judged, ``(M,)``, and the seconds.

        Raises:
            TrainingDivergedError: the guard gave up.
            KeyboardInterrupt: a signal came.
        """
        channels, size = x.shape[1], x.shape[2]
        device = torch_device(schedule.device)
        x = x.to(device)

        def engine(callbacks: Sequence[Callback] = ()) -> Engine:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                energy = ConvNet(channels=channels, size=size, widths=self.widths, activation="leaky_relu")
                generator = DeconvGenerator(
                    self.latent, channels=channels, size=size, widths=self.generator_widths, sigma=0.01
                )
                critic = ConvCritic(self.latent, channels=channels, size=size, widths=self.widths)
            objective = MEG(
                generator,
                critic,
                entropy_weight=self.entropy_weight,
                gradient_penalty=self.gradient_penalty,
                penalty_at="both",
            )
            optimizer = OptimizerSettings(lr=self.lr, betas=(0.5, 0.9))
            return Engine(
                energy,
                objective,
                seed=seed,
                optimizer=optimizer,
                schedule=Cosine(),
                device=device,
                callbacks=callbacks,
            )

        def data() -> Any:
            return batches(x, size=schedule.batch, seed=seed)

        steps = steps_within(engine, data(), seconds=schedule.seconds, probe=schedule.probe)
        own = engine()
        report = own.fit(data(), steps=steps)
        if report.stopped == "interrupted":
            raise KeyboardInterrupt(f"training was stopped by {own.interrupted_by} at step {report.steps}")
        energy = own.averaged().cpu()
        with torch.no_grad():
            return torch.cat([energy(part) for part in judged.split(256)]), report.seconds


@dataclass(frozen=True, kw_only=True)
class LatentAnomaly:
    """Settings of the experiment: every method trains for the same seconds on one device.

    Latent models have two scores, means over draws of the posterior: -log p(x, z) up to a constant, and the energy of the
    prior alone. That of MEG, which is beside them, is the energy.

    Args:
        data: ``mnist``, or ``fashion_mnist`` with its classes for digits.
        digits: that are held out in turn.
        methods: settings of :class:`LatentMethod` by name.
        by_prior: names of the methods that are judged by their prior alone. Both scores of all are in the figures.
        networks: settings of :class:`LatentNetworks`.
        schedule: settings of :class:`Schedule`.
        game: settings of :class:`PixelGame`.
        draws: of the posterior for each image.
        judged_on: ``test``; or ``validation``, the last 10,000 training images, by which settings are chosen.
        seeds: of training.
        jobs: trainings side by side, a thread each.
        found: file of what was found so far, JSON lines.
    """

    data: str = "mnist"
    digits: Sequence[int] = (1, 4, 5, 7, 9)
    methods: Mapping[str, Mapping[str, Any]]
    by_prior: Sequence[str] = ()
    networks: Mapping[str, Any] = field(default_factory=dict)
    schedule: Mapping[str, Any] = field(default_factory=dict)
    game: Mapping[str, Any] = field(default_factory=dict)
    draws: int = 8
    judged_on: str = "test"
    seeds: Sequence[int] = (0, 1, 2)
    jobs: int = 2
    found: str = "runs/latent_anomaly.jsonl"

    def __post_init__(self) -> None:
        require_data(self.data, self.judged_on)
        require_each("digits", self.digits, _require_digit)
        if _GAME in latent_methods(self.methods):
            raise ValueError(f"{_GAME} is beside the methods as it is; leave it out")
        if unknown := set(self.by_prior) - set(self.methods):
            raise ValueError(f"by_prior must name methods, got {', '.join(sorted(unknown))}")
        LatentNetworks(**self.networks)
        Schedule(**self.schedule)
        PixelGame(**self.game)
        for name in ("draws", "jobs"):
            require_positive_int(name, getattr(self, name))
        require_seeds(self.seeds)

    def run(self) -> tuple[dict[str, Any], Figure]:
        """Average precision and AUROC by digit and method, and a picture of the former."""
        notes = Notes(Path(self.found))
        names = [*self.methods, _GAME]
        asked = [self._question(n, d, s) for s in self.seeds for d in self.digits for n in names]
        missing = [(question,) for question in asked if question not in notes]
        for index, found in side_by_side(_answer, missing, jobs=self.jobs):
            question = missing[index][0]
            notes.add(question, found)
            print(question["name"], question["digit"], question["seed"], found, flush=True)  # noqa: T201
        keys = ("auprc", "auroc", *(f"{key}_by_{score}" for key in ("auprc", "auroc") for score in _SCORES))
        keys = (*keys, "lost", "seconds")
        figures: dict[str, Any] = {key: {str(d): {} for d in self.digits} for key in (*keys, "diverged")}
        for digit in self.digits:
            for name in names:
                by_seed = [notes[self._question(name, digit, seed)] for seed in self.seeds]
                ended = [found for found in by_seed if not found["diverged"]]
                figures["diverged"][str(digit)][name] = len(by_seed) - len(ended)
                own = "prior" if name in self.by_prior else "joint"
                for key in keys:
                    stored = f"{key}_by_{own}" if key in ("auprc", "auroc") and name != _GAME else key
                    values = [found[stored] for found in ended if stored in found]
                    if values:
                        deviation = statistics.stdev(values) if len(values) > 1 else 0.0
                        spread = {"mean": statistics.fmean(values), "std": deviation, "by_seed": values}
                        figures[key][str(digit)][name] = spread
        figures["trained_on"] = Schedule(**self.schedule).trained_on
        figures["settings"] = {**asdict(self), "seeds": list(self.seeds), "digits": list(self.digits)}
        figures["settings"]["by_prior"] = list(self.by_prior)
        return figures, self._picture(figures)

    def _picture(self, figures: Mapping[str, Any]) -> Figure:
        """A line for every method and score."""
        series = {}
        kinds = [(name, f"auprc_by_{score}", f"{name} by {score}") for score in _SCORES for name in self.methods]
        for name, key, title in [*kinds, (_GAME, "auprc", _GAME)]:
            precision = figures[key]
            told = [digit for digit in self.digits if name in precision[str(digit)]]
            if told:
                means = [precision[str(digit)][name]["mean"] for digit in told]
                series[title] = torch.tensor(told).double(), torch.tensor(means)
        return plotting.curves(series, x_label="digit held out", y_label="average precision", title="Digits never seen")

    def _question(self, name: str, digit: int, seed: int) -> dict[str, Any]:
        return {
            "experiment": "latent_anomaly",
            "name": name,
            "data": self.data,
            "digit": digit,
            "judged_on": self.judged_on,
            "method": dict(self.game) if name == _GAME else dict(self.methods[name]),
            "networks": dict(self.networks),
            "schedule": dict(self.schedule),
            "trained_on": Schedule(**self.schedule).trained_on,
            "draws": self.draws,
            "seed": seed,
        }


def _answer(question: Mapping[str, Any]) -> dict[str, Any]:
    """One digit held out of one method's training."""
    train, test = images_for(question["data"], question["judged_on"])
    x = scaled_pixels(train.x[train.y != question["digit"]])
    judged, labels = scaled_pixels(test.x), (test.y == question["digit"]).long()
    try:
        if question["name"] == _GAME:
            game, schedule = PixelGame(**question["method"]), Schedule(**question["schedule"])
            energies, seconds = game.energies(x, judged, schedule, seed=question["seed"])
            scores = {"": energies}
        else:
            method, networks, schedule = settings_of(question)
            run = trained(x, method, networks, schedule, seed=question["seed"])
            seconds, source = run.seconds, torch.Generator().manual_seed(question["seed"])
            both = run.model.anomaly_score(judged, run.posterior, draws=question["draws"], generator=source)
            scores = {f"_by_{name}": values for name, values in zip(_SCORES, both, strict=True)}
    except TrainingDivergedError:
        return {"diverged": True}
    figures: dict[str, Any] = {"diverged": False, "seconds": seconds}
    for ending, score in scores.items():
        # chains on a posterior too narrow for their steps: as odd as can be
        lost = ~score.isfinite()
        told = anomaly_scores(score.masked_fill(lost, torch.finfo(score.dtype).max), labels)
        figures |= {f"auprc{ending}": told.average_precision, f"auroc{ending}": told.auroc}
        figures["lost"] = max(float(lost.double().mean()), figures.get("lost", 0.0))
    return figures


def _require_digit(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 9:
        raise ValueError(f"{name} must be classes 0 to 9, got {value!r}")
