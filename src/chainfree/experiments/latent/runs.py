"""One latent model trained for so many seconds."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ...batches import batches
from ...checks import require_positive, require_positive_int
from ...datasets import Images, load_fashion_mnist, load_mnist
from ...energies import MLP
from ...engine import Engine
from ...engine.callbacks import Callback
from ...fitting import TiltedFit, fit_latent_prior
from ...latent import (
    GeneratorPrior,
    LangevinPosterior,
    LatentModel,
    LatentsOfPrior,
    LatentsOfRows,
    NormalPrior,
    ResampledPrior,
)
from ...objectives import VERA
from ..devices import device_name, require_device, torch_device
from ..timed_fit import steps_within
from .methods import LatentMethod, LatentNetworks, Training

__all__ = ["LATENT_DATA", "Run", "Schedule", "images_for", "require_data", "settings_of", "trained"]

LATENT_DATA = {"mnist": load_mnist, "fashion_mnist": load_fashion_mnist}
_HELD_OUT = 10_000
_ROWS_AT_ONCE = 1000


def require_data(data: str, judged_on: str) -> None:
    """Raise ``ValueError`` unless there are such images to train on and to be judged by."""
    if data not in LATENT_DATA:
        raise ValueError(f"data must be one of {', '.join(LATENT_DATA)}, got {data!r}")
    if judged_on not in ("test", "validation"):
        raise ValueError(f"judged_on must be test or validation, got {judged_on!r}")


def images_for(data: str, judged_on: str) -> tuple[Images, Images]:
    """Images to train on, and those to be judged by: the test split, or the last 10,000 of the training split.

    Raises:
        ValueError: no such data set.
        DataError: its file is missing.
    """
    require_data(data, judged_on)
    train = LATENT_DATA[data]("train")
    if judged_on == "test":
        return train, LATENT_DATA[data]("test")
    kept, held = slice(-_HELD_OUT), slice(-_HELD_OUT, None)
    return Images(train.x[kept], train.y[kept]), Images(train.x[held], train.y[held])


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long a training is, and where.

    Args:
        seconds: of all of it. A second stage is rehearsed before, and the first has what that leaves.
        probe: seconds in which the number of steps that the first takes is measured, before.
        batch: images a step.
        device: of the training; ``"auto"`` is an accelerator where there is one. What comes out is judged on the processor.
    """

    seconds: float = 300.0
    probe: float = 15.0
    batch: int = 128
    device: str = "cpu"

    def __post_init__(self) -> None:
        require_device("device", self.device)
        for name in ("seconds", "probe"):
            require_positive(name, getattr(self, name))
        require_positive_int("batch", self.batch)

    @property
    def trained_on(self) -> str:
        """The device that trainings are on, by what it is on this machine."""
        return device_name(torch_device(self.device))


@dataclass(frozen=True)
class Run:
    """What came out of one training.

    Args:
        model: averaged networks, on the processor, as all that follows.
        posterior: what rows are asked by.
        trained_posterior: the one in training; another where its draws are revised afterwards.
        prior: how the model is sampled.
        steps: of the first stage.
        seconds: of training, both stages.
        second_stage_seconds: of these, 0 without one.
        gain: nats a row by which the second stage's tilt is better than its mixture on held-out latents; 0 where it was given
            up, ``None`` without one.
    """

    model: LatentModel
    posterior: LatentsOfRows
    trained_posterior: LatentsOfRows
    prior: LatentsOfPrior
    steps: int
    seconds: float
    second_stage_seconds: float
    gain: float | None


def trained(x: Tensor, method: LatentMethod, networks: LatentNetworks, schedule: Schedule, *, seed: int) -> Run:
    """Train on images in [-1, 1], ``(N, C, H, W)``.

    Raises:
        ValueError: the second stage alone takes longer than all may.
        TrainingDivergedError: the guard gave up.
        KeyboardInterrupt: a signal came.
    """
    device = torch_device(schedule.device)
    x = x.to(device)

    def training() -> Training:
        return method.training(networks, size=x.shape[2], channels=x.shape[1], seed=seed)

    def probed(callbacks: list[Callback]) -> Engine:
        return training().engine(callbacks, device=device)

    first_stage = schedule.seconds
    if method.refit:
        first_stage -= _rehearsal(x, training(), method, networks, schedule.batch)
        if first_stage <= 0:
            raise ValueError(
                f"the second stage takes more than {schedule.seconds} seconds; give more, or fewer refit_steps"
            )
    steps = steps_within(probed, batches(x, size=schedule.batch, seed=seed), seconds=first_stage, probe=schedule.probe)
    own = training()
    engine = own.engine(device=device)
    began = time.perf_counter()
    report = engine.fit(batches(x, size=schedule.batch, seed=seed), steps=steps)
    if report.stopped == "interrupted":
        raise KeyboardInterrupt(f"training was stopped by {engine.interrupted_by} at step {report.steps}")
    model, posterior = _averaged(own, engine)
    prior: LatentsOfPrior = NormalPrior() if method.prior == "normal" else method.chain
    if isinstance(own.objective.prior, VERA):
        prior = GeneratorPrior(generator=engine.averaged(own.objective.prior.generator))
    second_stage, gain = 0.0, None
    if method.refit:
        first_ended = time.perf_counter()
        latents = _latents(x, model, posterior, method.refit_rows, seed)
        fitted = _refitted(latents, method, networks, schedule.batch, seed)
        model, prior = replace(model, prior=fitted.energy), ResampledPrior(proposals=method.proposals)
        if method.refit_steps and fitted.held_out is not None and fitted.held_out_base is not None:
            gain = fitted.held_out - fitted.held_out_base
        second_stage = time.perf_counter() - first_ended
    seconds = time.perf_counter() - began
    model, posterior, prior = _to_processor(model), _to_processor(posterior), _to_processor(prior)
    return Run(model, method.in_use(posterior), posterior, prior, steps, seconds, second_stage, gain)


def _averaged(training: Training, engine: Engine) -> tuple[LatentModel, LatentsOfRows]:
    objective = training.objective
    model = LatentModel(engine.averaged(), engine.averaged(training.decoder), objective.likelihood)
    posterior = objective.posterior
    if isinstance(posterior, LangevinPosterior):
        return model, posterior
    return model, replace(posterior, encoder=engine.averaged(posterior.encoder))


_Part = TypeVar("_Part", LatentModel, LatentsOfRows, LatentsOfPrior)


def _to_processor(part: _Part) -> _Part:
    """The record with its networks there."""
    assert is_dataclass(part)
    held = {field.name: getattr(part, field.name) for field in fields(part)}
    moved: dict[str, Any] = {name: value.cpu() for name, value in held.items() if isinstance(value, nn.Module)}
    return replace(part, **moved)


def _rehearsal(x: Tensor, training: Training, method: LatentMethod, networks: LatentNetworks, batch: int) -> float:
    """Seconds that the second stage takes: of these networks' latents, and of a prior for what no mixture finds at once."""
    training.engine(device=x.device)  # which moves the networks there
    model = LatentModel(training.prior, training.decoder, training.objective.likelihood)
    began = time.perf_counter()
    latents = _latents(x, model, training.objective.posterior, method.refit_rows, training.seed)
    others = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0)).to(latents)
    _refitted(others, method, networks, batch, training.seed)
    return time.perf_counter() - began


@torch.no_grad()
def _latents(x: Tensor, model: LatentModel, posterior: LatentsOfRows, most: int, seed: int) -> Tensor:
    source = torch.Generator(x.device).manual_seed(seed)
    chosen = torch.randperm(len(x), generator=source, device=x.device)[:most]
    parts = [posterior.latents(model, x[part], generator=source) for part in chosen.split(_ROWS_AT_ONCE)]
    return torch.cat(parts)


def _refitted(latents: Tensor, method: LatentMethod, networks: LatentNetworks, batch: int, seed: int) -> TiltedFit:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        width = tuple(networks.prior_widths)
        network = MLP(networks.latent, width=width, depth=len(width), activation="relu")
    return fit_latent_prior(
        latents,
        network,
        components=method.refit_components,
        noise=(method.noise[0], method.noise[-1]),
        draws=method.draws,
        steps=method.refit_steps,
        batch=batch,
        lr=method.prior_lr,
        seed=seed,
    )


def settings_of(question: Mapping[str, Any]) -> tuple[LatentMethod, LatentNetworks, Schedule]:
    """The records that a question of an experiment names."""
    return (
        LatentMethod(**question["method"]),
        LatentNetworks(**question["networks"]),
        Schedule(**question["schedule"]),
    )
