"""A joint energy model of images on an accelerator: the one long training that goes on where it was stopped.

Grathwohl, Kelly, Hashemi, Norouzi, Swersky, Duvenaud, ICLR 2021, arXiv 2010.04230, section 6.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ... import plotting
from ...batches import batches
from ...checks import require_in_unit_interval, require_non_negative, require_positive, require_positive_int
from ...energies import JointEnergy, WideResNet
from ...engine import Constant, Engine, OptimizerSettings, Precision, latest_checkpoint, require_precision
from ...engine.callbacks import Callback
from ...evaluation import classifier_scores
from ...objectives import Joint
from ..checks import require_seeds
from ..devices import device_name, require_device, torch_device
from .augment import AugmentedImages
from .marginals import KNOWN, Marginal, MarginalSettings
from .tasks import load_task, require_task

__all__ = ["JointTraining"]

_ROWS_AT_A_TIME = 500
_WAYS = {name: f"joint energy by {name.replace('_', ' ')}" for name in KNOWN} | {"none": "classifier"}


@dataclass(frozen=True, kw_only=True)
class JointTraining:
    """Settings of the experiment.

    While training goes on, images of the training split that are held out draw the curve. The test rows are scored once, with
    the averaged weights of the last step; a call that stops earlier has the curve alone.

    Args:
        task: images.
        depth, widen: of :class:`chainfree.energies.WideResNet`.
        marginal: how the density is learned: by VERA, by what is compared with it, or ``"none"`` for a classifier alone. What
            is not VERA's has the defaults of :class:`chainfree.experiments.joint.marginals.MarginalSettings`.
        latent, generator_channels, entropy_weight, gradient_penalty, penalty_every, entropy_samples: of VERA.
        classification: weight of the cross-entropy.
        lr, generator_lr, betas: of Adam.
        warmup: steps until the full rates.
        ema: decay of the moving average that is judged.
        batch, steps: of training.
        shift, noise: see :func:`chainfree.experiments.joint.augment.augmented`.
        minutes: of training in this call at most; the next call of the same command goes on from there.
        folder: of the checkpoints.
        held_out: training images, from the end, that the curve is about.
        every: steps between looks and checkpoints.
        device: ``"auto"`` is an accelerator where there is one.
        precision: see :class:`chainfree.Engine`.
        seeds: one, of everything.
    """

    task: str = "cifar10"
    depth: int = 28
    widen: int = 10
    marginal: Marginal = "vera"
    latent: int = 128
    generator_channels: Sequence[int] = (512, 256, 128)
    entropy_weight: float = 1e-4
    gradient_penalty: float = 0.1
    penalty_every: int = 1
    entropy_samples: int = 16
    classification: float = 100.0
    lr: float = 3e-5
    generator_lr: float = 6e-5
    betas: Sequence[float] = (0.0, 0.9)
    warmup: int = 1000
    ema: float = 0.999
    batch: int = 40
    steps: int = 250_000
    shift: int = 4
    noise: float = 0.03
    minutes: float | None = None
    folder: str = "runs/jem_cifar10"
    held_out: int = 2000
    every: int = 2500
    device: str = "auto"
    precision: Precision = "fp32"
    seeds: Sequence[int] = (0,)

    def __post_init__(self) -> None:
        require_task(self.task, images=True)
        if self.marginal not in KNOWN:
            raise ValueError(f"marginal must be one of {', '.join(KNOWN)}, got {self.marginal!r}")
        for name in (
            "depth",
            "widen",
            "latent",
            "penalty_every",
            "entropy_samples",
            "batch",
            "steps",
            "held_out",
            "every",
        ):
            require_positive_int(name, getattr(self, name))
        with torch.device("meta"):
            WideResNet(depth=self.depth, widen=self.widen)
        for name in ("lr", "generator_lr"):
            require_positive(name, getattr(self, name))
        for name in ("entropy_weight", "gradient_penalty", "classification", "noise"):
            require_non_negative(name, getattr(self, name))
        for name in ("warmup", "shift"):
            if getattr(self, name) != 0:
                require_positive_int(name, getattr(self, name))
        for width in self.generator_channels:
            require_positive_int("generator_channels", width)
        require_in_unit_interval("ema", self.ema)
        if len(self.betas) != 2 or not self.generator_channels:
            raise ValueError("betas are two numbers, and generator_channels at least one")
        if self.minutes is not None:
            require_positive("minutes", self.minutes)
        require_precision(self.precision)
        require_device("device", self.device)
        require_seeds(self.seeds)
        if len(self.seeds) != 1:
            raise ValueError(f"this recipe runs one seed at a time, got {list(self.seeds)!r}")

    def run(self) -> tuple[dict[str, Any], Figure]:
        """Figures (the curve up to now and, at the end, scores on the test rows) and a picture of the curve."""
        seed = self.seeds[0]
        device = torch_device(self.device)
        task = load_task(self.task, "test")
        x, y = task.x[: -self.held_out].to(device), task.y[: -self.held_out].to(device)
        density = MarginalSettings(
            latent=self.latent,
            generator_channels=self.generator_channels,
            entropy_weight=self.entropy_weight,
            gradient_penalty=self.gradient_penalty,
            penalty_every=self.penalty_every,
            entropy_samples=self.entropy_samples,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = WideResNet(depth=self.depth, widen=self.widen, channels=x.shape[1], outputs=task.classes)
        energy = JointEnergy(network, task.classes)
        objective = Joint(density.build(self.marginal, task.x, seed)[0], classification=self.classification)
        looks = _Looks(task.x[-self.held_out :].to(device), task.y[-self.held_out :], self.minutes)
        first, second = self.betas
        rates = {player: self.lr if player == "energy" else self.generator_lr for player in objective.players(energy)}
        engine = Engine(
            energy,
            objective,
            seed=seed,
            optimizer={player: OptimizerSettings(lr=lr, betas=(first, second)) for player, lr in rates.items()},
            schedule=Constant(warmup=self.warmup),
            ema=self.ema,
            precision=self.precision,
            device=device,
            callbacks=[looks],
            log_every=self.every,
            checkpoints=Path(self.folder),
            checkpoint_every=self.every,
        )
        if Path(self.folder).is_dir() and any(Path(self.folder).iterdir()):
            engine.resume(latest_checkpoint(Path(self.folder)))
        stream = AugmentedImages(
            batches(x, y=y, size=self.batch, seed=seed), shift=self.shift, noise=self.noise, seed=seed
        )
        report = engine.fit(stream, steps=self.steps)
        looks.look(engine)
        ended = report.steps >= self.steps
        figures = {
            **(_scores(cast(JointEnergy, engine.averaged()), task.x_judged.to(device), task.y_judged) if ended else {}),
            "steps": report.steps,
            "steps_planned": self.steps,
            "stopped": report.stopped,
            "seconds_of_training": looks.seconds,
            "held_out_curve": looks.curve,
            "device": device_name(device),
        }
        at = [look["step"] for look in looks.curve]
        found = [100 * look["accuracy"] for look in looks.curve]
        picture = plotting.curves(
            {"averaged weights": (torch.tensor(at), torch.tensor(found))},
            x_label="steps",
            y_label="accuracy on held-out training images (%)",
            title=f"{self.task}: {_WAYS[self.marginal]} after {report.steps:,} of {self.steps:,} steps",
        )
        return figures, picture


class _Looks(Callback):
    """Accuracy and calibration now and then, and the end of this call's time."""

    def __init__(self, x: Tensor, y: Tensor, minutes: float | None) -> None:
        self._x, self._y, self._minutes = x, y, minutes
        self._started = time.perf_counter()
        self._earlier = 0.0  # seconds, in other calls
        self.curve: list[dict[str, float]] = []

    @property
    def seconds(self) -> float:
        """Of training, in this call and in those before."""
        return self._earlier + time.perf_counter() - self._started

    def look(self, engine: Engine, record: Mapping[str, float] | None = None) -> dict[str, float]:
        """Scores of this step, looked at once."""
        if not self.curve or self.curve[-1]["step"] != engine.step:
            found = {"step": float(engine.step), **_scores(cast(JointEnergy, engine.averaged()), self._x, self._y)}
            energies = ("energy_data", "energy_samples", "cross_entropy")
            found |= {name: record[name] for name in energies if record is not None and name in record}
            self.curve.append(found)
            print({name: round(value, 4) for name, value in found.items()}, flush=True)  # noqa: T201
        return self.curve[-1]

    def on_start(self, engine: Engine, total_steps: int) -> None:
        self._earlier, self._started = self.seconds, time.perf_counter()

    def on_step(self, engine: Engine) -> None:
        if self._minutes is not None and time.perf_counter() - self._started > 60 * self._minutes:
            engine.request_stop(f"{self._minutes:g} minutes are over")

    def on_log(self, engine: Engine, record: Mapping[str, float]) -> None:
        self.look(engine, record)

    def state_dict(self) -> dict[str, Any]:
        return {"curve": self.curve, "seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        # the guard goes back too, and the time that was spent since is still spent
        self.curve = list(state["curve"])
        self._earlier = max(self._earlier, state["seconds"] - (time.perf_counter() - self._started))


@torch.no_grad()
def _scores(energy: JointEnergy, x: Tensor, y: Tensor) -> dict[str, float]:
    logits = torch.cat([energy.logits(part).cpu() for part in x.split(_ROWS_AT_A_TIME)])
    return classifier_scores(logits, y)._asdict()
