"""The training engine: it steps whatever player an objective names, and nothing else about losses.

An objective is a coroutine that yields one player's loss at a time (see :class:`chainfree.typing.Objective`). Per yield the
engine does ``zero_grad``, ``backward`` on that player's parameters alone, clip, step, ``constrain``; per round the moving
average, the guard and the callbacks.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, overload

import torch
from torch import nn

from ..checks import require_in_unit_interval, require_positive, require_positive_int
from ..objectives.single import as_objective
from ..typing import Batches, Loss, Objective
from .callbacks import Callback
from .checkpoint import load_checkpoint, require_none_later
from .denormals import flushing_denormals
from .guard import Guard, TrainingDivergedError
from .loop import Loop, LoopSettings
from .modules import TrainedModules
from .optimizers import Cosine, OptimizerSettings, ScheduleSettings
from .players import Players
from .precision import Precision
from .seeding import generator_for
from .signals import StopRequest, catching_signals
from .state import TrainingState

__all__ = ["Engine", "FitReport"]

AnyModule = TypeVar("AnyModule", bound=nn.Module)


@dataclass(frozen=True)
class FitReport:
    """How a fit ended.

    Args:
        steps: rounds done in all.
        seconds: spent in this fit.
        stopped: ``"completed"``, ``"interrupted"`` or the reason a callback gave.
    """

    steps: int
    seconds: float
    stopped: str


class Engine:
    """Trains an energy.

    Args:
        energy: the network; moved to ``device``.
        objective: a loss, or an objective with several players.
        seed: of everything random that training draws: equal seeds on equal machines give equal weights. A network that
            draws for itself (dropout) draws from torch's global generator, which is neither seeded nor saved here.
        optimizer: one for all players, or one for each by name.
        schedule: of the learning rate, for all players.
        clip: largest gradient norm of a player, or ``None``.
        ema: decay of the moving average that evaluation uses, or ``None``.
        precision: ``"bf16"`` runs energies under autocast; parameters and losses stay float32.
        accumulate: batches whose gradients are averaged before a step.
        compile: run the energy through ``torch.compile``; falls back to eager mode with a message where that fails.
        guard: what counts as divergence and what is done, or ``None`` to let it happen.
        device: where to train; where the energy's parameters are, by default.
        callbacks: see :class:`Callback`.
        log_every: steps between records for the callbacks. Only then are metrics brought to the host.
        checkpoints: folder for checkpoints, or ``None`` for none.
        checkpoint_every: steps between them. One more is written at the end, on a signal and on divergence.

    Raises:
        ValueError: a setting out of its range, no trainable parameter, or an unknown player.

    >>> import chainfree as cf
    >>> energy = cf.energies.MLP(dim=2, width=16, depth=2)
    >>> engine = cf.Engine(energy, cf.losses.EnergyDiscrepancy(), seed=0)
    >>> engine.fit(cf.batches(torch.randn(256, 2), size=64), steps=10).steps
    10
    """

    def __init__(
        self,
        energy: nn.Module,
        objective: Loss | Objective,
        *,
        seed: int = 0,
        optimizer: OptimizerSettings | Mapping[str, OptimizerSettings] | None = None,
        schedule: ScheduleSettings | None = None,
        clip: float | None = None,
        ema: float | None = 0.999,
        precision: Precision = "fp32",
        accumulate: int = 1,
        compile: bool = False,
        guard: Guard | None = Guard(),  # noqa: B008  (frozen)
        device: torch.device | str | None = None,
        callbacks: Sequence[Callback] = (),
        log_every: int = 100,
        checkpoints: Path | None = None,
        checkpoint_every: int = 1000,
    ) -> None:
        if clip is not None:
            require_positive("clip", clip)
        if ema is not None:
            require_in_unit_interval("ema", ema)
        self._settings = LoopSettings(
            precision=precision,
            accumulate=accumulate,
            compile=compile,
            guard=guard,
            log_every=log_every,
            checkpoints=checkpoints,
            checkpoint_every=checkpoint_every,
        )
        self.device = torch.device(device) if device is not None else _device_of(energy)
        self.energy = energy
        self.objective = as_objective(objective)
        modules = TrainedModules(self.energy, self.objective)
        modules.to(self.device)
        parameters = {name: list(group) for name, group in self.objective.players(self.energy).items()}
        modules.require_registers(parameters)
        players = Players(
            parameters,
            optimizer=OptimizerSettings() if optimizer is None else optimizer,
            schedule=Cosine() if schedule is None else schedule,
            clip=clip,
            ema=ema,
        )
        self._state = TrainingState(modules, players, generator_for(self.device, seed), callbacks)
        self._stop = StopRequest()

    @property
    def step(self) -> int:
        """Rounds done."""
        return self._state.step

    @property
    def log_every(self) -> int:
        """Steps between records for the callbacks."""
        return self._settings.log_every

    # -- training ------------------------------------------------------------------------------------------------------

    def fit(self, data: Batches, *, steps: int) -> FitReport:
        """Train until ``steps`` rounds are done in all, counted from the engine's beginning or from the resumed run's.

        SIGINT and SIGTERM end it after the current step, with a checkpoint where there is a folder for one.

        Args:
            data: an endless stream; a resumed engine moves it to where the checkpoint was taken.
            steps: rounds in all; the schedule's length.

        Returns:
            How it ended.

        Raises:
            TrainingDivergedError: the guard ran out of tries, or the data hold NaN or infinities. The engine is then back
                in the last good state.
            ValueError: ``steps`` below 1, ``data`` are not the ones of the checkpoint, the folder for checkpoints has one of
                a later step, so of another run, or a module has moved to another device or dtype.
        """
        require_positive_int("steps", steps)
        if self._settings.checkpoints is not None:
            require_none_later(self._settings.checkpoints, self.step)
        self._state.players.attach()
        self._state.move(data)
        self._stop = StopRequest()
        started, stopped = time.perf_counter(), "failed"
        self._state.modules.train()
        for callback in self._state.callbacks:
            callback.on_start(self, steps)
        try:
            with catching_signals(self._stop), flushing_denormals():
                stopped = Loop(self, self._state, self._settings, self._stop).run(data, steps)
        except TrainingDivergedError:
            stopped = "diverged"
            raise
        finally:
            for callback in self._state.callbacks:
                callback.on_end(self, stopped)
        return FitReport(self.step, time.perf_counter() - started, stopped)

    # -- state ---------------------------------------------------------------------------------------------------------

    @overload
    def averaged(self, module: None = None) -> nn.Module: ...

    @overload
    def averaged(self, module: AnyModule) -> AnyModule: ...

    def averaged(self, module: nn.Module | None = None) -> nn.Module:
        """A copy with the moving average's weights, in evaluation mode and without gradients: what to evaluate and keep.

        Without ``ema`` the weights are the latest. Buffers (running statistics of batch norms) are copied as they are.

        Args:
            module: the energy, which is the default, the objective, or any module inside them, such as a generator.

        Raises:
            ValueError: ``module`` belongs to neither.
        """
        module = self.energy if module is None else module
        self._state.modules.require_contains(module)
        return self._state.players.averaged_copy(module)

    def averaged_energy(self) -> nn.Module:
        """:meth:`averaged` of the energy."""
        return self.averaged()

    def averaged_weights(self) -> dict[str, dict[str, Any]]:
        """States of the ``"energy"`` and, if it is a module, the ``"objective"``, with the averages in place of weights."""
        modules = self._state.modules.by_name
        return {name: self._state.players.averaged_state(module) for name, module in modules.items()}

    def adopt_weights(self, weights: Mapping[str, Mapping[str, Any]]) -> None:
        """Make these the weights and their moving average: what early stopping ends with.

        Args:
            weights: as :meth:`averaged_weights` returns them; a module that is left out keeps its own.

        Raises:
            ValueError: ``weights`` of a module that is not trained here.
        """
        modules = self._state.modules.by_name
        if not weights.keys() <= modules.keys():
            raise ValueError(f"weights of {sorted(weights)}, but this engine trains {sorted(modules)}; name only those")
        for name, state in weights.items():
            modules[name].load_state_dict(state)
            self._state.players.restart_average(modules[name])

    def state_dict(self, data: Batches) -> dict[str, Any]:
        """Everything that the next step depends on, copied: tensors, numbers, strings, lists and dicts."""
        return self._state.state_dict(data)

    def load_state_dict(self, state: Mapping[str, Any], data: Batches | None = None) -> None:
        """Take up a saved state; ``data`` are moved there now, or else by the next :meth:`fit`.

        Raises:
            ValueError: the state belongs to another network, objective, set of players or of callbacks, or ema.
        """
        self._state.load_state_dict(state, data)

    def resume(self, checkpoint: Path) -> None:
        """Take up a checkpoint; the next :meth:`fit` goes on bit for bit as the interrupted one would have.

        One thing may differ: where the guard later steps in, it goes back to the newest state that was looked at, and an
        interruption is one more such state.

        Raises:
            CheckpointError: the file is missing or damaged.
            ValueError: it belongs to another run.
        """
        self.load_state_dict(load_checkpoint(checkpoint))

    @property
    def interrupted_by(self) -> str | None:
        """The name of the signal that ended the last fit, if one did."""
        return self._stop.signal

    # -- for callbacks -------------------------------------------------------------------------------------------------

    def request_stop(self, reason: str) -> None:
        """End training after this step."""
        self._stop.asked = reason

    def add_to_log(self, name: str, value: float) -> None:
        """Put a number into the next record."""
        self._state.to_log[name] = value

    def _call_back(self, steps: int) -> None:
        """Tell them of a step; the loop does."""
        for callback in self._state.callbacks:
            callback.on_step(self)
        if self._state.callbacks and (self.step % self.log_every == 0 or self.step == steps):
            record = self._state.record(steps)
            for callback in self._state.callbacks:
                callback.on_log(self, record)


def _device_of(energy: nn.Module) -> torch.device:
    parameter = next(energy.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device
