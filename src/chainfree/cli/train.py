"""``chainfree train``: from settings to a run folder with a trained energy and its report."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..batches import SampledBatches, batches
from ..engine import (
    Engine,
    HeldOut,
    MetricsFile,
    Progress,
    TensorBoard,
    latest_checkpoint,
    load_checkpoint,
    save_weights,
)
from ..engine.callbacks import Callback
from ..objectives import VERA
from ..typing import Batches, Density
from .errors import UsageError
from .generators import DataGenerator, built_vera, optimizers, resolved
from .models import Model, fitted_model
from .parsing import parse_settings
from .report import draw_report, evaluate_run, held_out_loss, summary_text
from .run_folder import RunFolder
from .settings import TrainSettings
from .sources import Source, load_source
from .threads import set_threads

_WORSE = 0.1  # nats, beyond the noise of held-out rows

__all__ = ["engine_for", "stream_for", "train"]


def train(arguments: Sequence[str]) -> int:
    """Train as the arguments say; the exit status is 0, or 128 plus the signal's number after an interruption."""
    resumed, settings = _resumed_or_new(arguments)
    if settings.threads is not None:
        set_threads(settings.threads)
    source = load_source(settings)
    settings = resolved(settings, tuple(source.train.shape[1:]))
    model = fitted_model(settings, source.train, source.columns)
    stream = stream_for(settings, source, model)
    _device(settings.device)
    _require_suits(settings, source, model)
    run = resumed or RunFolder.create(settings, source)
    engine = None
    try:
        engine = engine_for(settings, source, model, run)
        if resumed is not None:
            run.require_same_data(source)
            _take_up(run, engine, stream)
            if settings.steps < engine.step:
                raise UsageError(f"{run.path} is at step {engine.step} already; give --steps of at least that")
            # the new length is the run's own from here on: the next resume is told nothing
            run.keep_settings(settings)
        first = engine.step
        print(f"training on {source.title}, files in {run.path}", flush=True)  # noqa: T201
        report = engine.fit(stream, steps=settings.steps)
    except Exception:
        # a run that never began is no run; one that diverged at once has a checkpoint to look at
        if resumed is None and (engine is None or engine.step == 0) and not run.checkpoints.exists():
            shutil.rmtree(run.path, ignore_errors=True)
        raise
    if report.stopped == "interrupted":
        print(f"stopped at step {report.steps}; go on with: chainfree train --resume {run.path}")  # noqa: T201
        return 128 + (signal.SIGTERM if engine.interrupted_by == "SIGTERM" else signal.SIGINT)
    trained = Model(engine.averaged_energy().cpu(), model.coordinates)
    if isinstance(engine.objective, VERA):
        generator = engine.averaged(engine.objective.generator).cpu()
        save_weights(run.generator_weights, DataGenerator(generator, model.coordinates))
    # the energy last: a run with an energy is a whole one
    save_weights(run.weights, trained.in_data_units())
    summary = evaluate_run(settings, source, trained)
    done = report.steps - first
    rate = f" ({done / report.seconds:.0f} a second)" if done else ""
    print(f"{done:,} steps in {report.seconds:.1f} s{rate}, {report.stopped}\n")  # noqa: T201
    print(summary_text(summary))  # noqa: T201
    note = _overfitting(run.metrics, summary.get("held_out_loss"))
    if note:
        print(f"\n{note}")  # noqa: T201
    pictures = draw_report(run, source, trained, summary)
    print(f"\npictures in {run.report}: {', '.join(pictures)}")  # noqa: T201
    return 0


def _overfitting(metrics: Path, loss: float | None) -> str | None:
    """What to say where held-out rows were better explained before the end than at it."""
    records = (json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines())
    seen = [(value, record["step"]) for record in records if (value := record.get("held_out_loss")) is not None]
    if loss is None or not seen:
        return None
    best, step = min(seen)
    if loss <= best + _WORSE:
        return None
    return (
        f"the held-out loss was {best:.4g} at step {step:,} and is {loss:.4g} now: the energy has learnt the training rows "
        "by heart, and its scores suffer. Train with --patience 3 (and a smaller --evaluate_every), which keeps the best, or "
        "with fewer --steps"
    )


def stream_for(settings: TrainSettings, source: Source, model: Model) -> Batches:
    """Scaled training rows, shuffled; of a toy density, fresh draws."""
    if source.density is not None:
        return SampledBatches(_Scaled(source.density, model), size=settings.batch, seed=settings.seed)
    return batches(model.scaled(source.train), size=settings.batch, seed=settings.seed)


def engine_for(settings: TrainSettings, source: Source, model: Model, run: RunFolder | None) -> Engine:
    """The engine that the settings describe; without a run folder it writes and shows nothing."""
    vera = built_vera(settings, model.scaled(source.train), model) if settings.method == "vera" else None
    callbacks: list[Callback] = []
    if run is not None:
        held_out = model.scaled(source.held_out)
        metric = _HeldOutLoss(settings, held_out)
        callbacks = [
            HeldOut(metric, every=settings.evaluate_every, patience=settings.patience),
            MetricsFile(run.metrics),
            Progress() if vera is None else Progress(show=("energy_data", "energy_samples", "held_out_loss")),
        ]
        if settings.tensorboard:
            callbacks.append(TensorBoard(run.path / "tensorboard"))
    return Engine(
        model.energy,
        settings.loss.build() if vera is None else vera,
        seed=settings.seed,
        optimizer=settings.optimizer if vera is None else optimizers(settings, vera.players(model.energy)),
        schedule=settings.schedule.build(),
        clip=settings.clip,
        ema=settings.ema or None,
        precision=settings.precision,
        accumulate=settings.accumulate,
        compile=settings.compile,
        guard=settings.guard,
        device=settings.device,
        callbacks=callbacks,
        log_every=settings.log_every,
        checkpoints=None if run is None else run.checkpoints,
        checkpoint_every=settings.checkpoint_every,
    )


@dataclass(frozen=True)
class _HeldOutLoss:
    settings: TrainSettings
    rows: Tensor

    def __call__(self, energy: torch.nn.Module) -> float:
        parameter = next(energy.parameters(), None)
        rows = self.rows if parameter is None else self.rows.to(parameter.device)
        return held_out_loss(self.settings, energy, rows)


@dataclass(frozen=True)
class _Scaled:
    """A density seen in scaled coordinates, to draw from."""

    density: Density
    model: Model

    def sample(self, n: int, /, *, generator: torch.Generator | None = None) -> Tensor:
        return self.model.scaled(self.density.sample(n, generator=generator))

    def log_prob(self, x: Tensor, /) -> Tensor:
        raise TypeError("draws only")


def _resumed_or_new(arguments: Sequence[str]) -> tuple[RunFolder | None, TrainSettings]:
    arguments = [part for a in arguments for part in (a.split("=", 1) if a.startswith("--resume=") else [a])]
    if arguments and not arguments[0].startswith("-"):
        arguments.insert(0, "--config")
    if "--resume" not in arguments:
        settings = parse_settings(TrainSettings, arguments, command="train")
        is_file = ":" not in settings.data and Path(settings.data).suffix
        # the run must find its data from wherever it is evaluated
        return None, replace(settings, data=str(Path(settings.data).resolve())) if is_file else settings
    position = arguments.index("--resume")
    if position + 1 >= len(arguments):
        raise UsageError("--resume needs the folder of a run")
    run = RunFolder.open(arguments[position + 1])
    rest = arguments[:position] + arguments[position + 2 :]
    if [a for a in rest if a.startswith("-") and a.partition("=")[0] != "--steps"]:
        raise UsageError("a resumed run keeps its settings; beside --resume only --steps may be given")
    return run, parse_settings(TrainSettings, ["--config", str(run.config), *rest], command="train")


def _take_up(run: RunFolder, engine: Engine, stream: Batches) -> None:
    """Go to the run's last checkpoint; a run that was killed before its first one begins again, to the same end."""
    if not run.checkpoints.is_dir() and not run.weights.exists():
        return
    run.records()  # whose lines are to be gone on with
    state = load_checkpoint(latest_checkpoint(run.checkpoints))
    try:
        engine.load_state_dict(state, stream)
    except ValueError as error:
        raise UsageError(f"{run.path} does not go on as it is: {error}") from error


def _require_suits(settings: TrainSettings, source: Source, model: Model) -> None:
    """The loss of one batch, before a folder is made: it may not suit the rows' shape, or not fit the memory.

    Of VERA too, whose held-out rows are judged by it.
    """
    x = next(stream_for(settings, source, model)).x
    try:
        with torch.no_grad():
            settings.loss.build()(model.energy.eval(), x, generator=torch.Generator().manual_seed(0))
    except ValueError as error:
        raise UsageError(f"{error}; choose another --loss.perturbation") from error


def _device(name: str) -> None:
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    try:
        if torch.device(name).type not in ("cpu", None if accelerator is None else accelerator.type):
            raise UsageError(f"device {name!r} is not available here; use --device cpu")
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {name!r} is not available here; use --device cpu") from error
