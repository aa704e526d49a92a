"""The training loop: rounds, looks, records and checkpoints, until all is done or somebody asks to end."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checks import require_positive_int
from ..typing import Batch, Batches, Energy
from .checkpoint import save_checkpoint
from .compilation import compiled_or_eager
from .guard import Guard, Symptom, TrainingDivergedError
from .precision import Precision, autocast_for, require_precision
from .recovery import Recovery
from .rounds import Rounds
from .signals import StopRequest
from .state import TrainingState

if TYPE_CHECKING:
    from .engine import Engine

__all__ = ["Loop", "LoopSettings"]


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """How an engine trains; see :class:`Engine` for each.

    Raises:
        ValueError: a setting out of its range.
    """

    precision: Precision
    accumulate: int
    compile: bool
    guard: Guard | None
    log_every: int
    checkpoints: Path | None
    checkpoint_every: int

    def __post_init__(self) -> None:
        require_precision(self.precision)
        for name in ("accumulate", "log_every", "checkpoint_every"):
            require_positive_int(name, getattr(self, name))


class Loop:
    """One fit.

    Args:
        engine: whom callbacks are told about.
        state: what is trained.
        settings: of the engine.
        stop: looked at after every step.
    """

    def __init__(self, engine: Engine, state: TrainingState, settings: LoopSettings, stop: StopRequest) -> None:
        self._engine = engine
        self._state = state
        self._settings = settings
        self._stop = stop
        self._recovery = Recovery(settings.guard, state)

    def run(self, data: Batches, steps: int) -> str:
        """Train until ``steps`` rounds are done in all; returns how it ended."""
        state, settings, stop, recovery = self._state, self._settings, self._stop, self._recovery
        device = self._engine.device
        rounds = Rounds(
            self._engine.objective,
            self._prepared_energy(data),
            state,
            total=steps,
            autocast=self._autocast,
            sees=recovery.sees,
        )
        unfit = recovery.look()
        if unfit is not None:
            raise TrainingDivergedError(f"{unfit} before training began; start from finite weights")
        recovery.keep(data)
        if stop.asked is not None:  # a callback asked before the first round
            return stop.asked
        while state.step < steps:
            batches = [next(data).to(device) for _ in range(settings.accumulate)]
            symptom = rounds.play(batches)
            saving = keeping = False
            signalled = asked = None
            if symptom is None:
                state.step += 1
                saving = state.step == steps or state.step % settings.checkpoint_every == 0
                keeping = saving or recovery.is_due()
                # nothing is kept, in memory or on disk, that has not been looked at
                symptom = recovery.look() if keeping else None
            if symptom is None:
                self._engine._call_back(steps)
                # read once: a signal may come at any moment, also in the callbacks
                signalled, asked = stop.signal, stop.asked
                if (signalled is not None or asked is not None) and not saving:
                    saving = True
                    symptom = None if keeping else recovery.look()
            if symptom is not None:
                stop.asked = None  # the callback that asked goes back too, and may ask again
                self._go_back(symptom, batches, data)
                continue
            climbed = recovery.climb()
            if climbed is not None:
                self._emit("recovered", climbed)
            if keeping or saving:
                recovery.keep(data)
            if saving:
                self._save(data)
            if signalled is not None:
                self._emit(signalled, f"stopped after step {state.step}")
                return "interrupted"
            if asked is not None:
                return asked
        return "completed"

    def _go_back(self, symptom: Symptom, batches: Sequence[Batch], data: Batches) -> None:
        """Return to the last good state, or give up there."""
        reason = self._recovery.go_back(symptom, batches, data)
        step = self._state.step
        if reason is None:
            factor = self._state.retries.lr_factor
            self._emit("guard", f"{symptom}; back to step {step} with the learning rate at {factor:g} of its setting")
            return
        self._save(data)
        where = f"; the last good state, step {step}, is saved" if self._settings.checkpoints is not None else ""
        self._emit("diverged", reason + where)
        raise TrainingDivergedError(f"training diverged: {reason}{where}")

    def _save(self, data: Batches) -> None:
        if self._settings.checkpoints is not None:
            save_checkpoint(self._settings.checkpoints, self._state.state_dict(data), step=self._state.step)

    def _emit(self, kind: str, message: str) -> None:
        for callback in self._state.callbacks:
            callback.on_event(self._engine, kind, message)

    def _prepared_energy(self, data: Batches) -> Energy:
        energy = self._engine.energy
        if not self._settings.compile:
            return energy
        position = data.state_dict()
        probe = next(data).to(self._engine.device)
        data.load_state_dict(position)
        rows_of = getattr(self._engine.objective, "rows_of_energy", None)
        rows = probe.x if rows_of is None else rows_of(probe)
        compiled, problem = compiled_or_eager(energy, rows, self._autocast)
        if problem is not None:
            self._emit("compile", problem)
        return compiled

    def _autocast(self) -> AbstractContextManager[Any]:
        return autocast_for(self._settings.precision, self._engine.device)
