"""The training engine: it steps whatever player an objective names, and nothing else about losses.

An objective is a coroutine that yields one player's loss at a time (see :class:`chainfree.typing.Objective`). Per yield the
engine does ``zero_grad``, ``backward`` on that player's parameters alone, clip, step; per round the moving average, the guard
and the callbacks.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from typing_extensions import TypeIs

from ..checks import require_in_unit_interval, require_positive, require_positive_int
from ..objectives import Single
from ..typing import Batch, Batches, Energy, Loss, Objective
from .callbacks import Callback
from .checkpoint import load_checkpoint, require_none_later, save_checkpoint
from .compilation import compiled_or_eager
from .denormals import flushing_denormals
from .guard import Guard, Retries, Symptom, TrainingDivergedError, Watch, non_finite_rows
from .metric_sums import MetricSums
from .optimizers import Cosine, OptimizerSettings, ScheduleSettings
from .players import Players
from .seeding import generator_for
from .signals import StopRequest, catching_signals

__all__ = ["Engine", "FitReport"]


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
        precision: Literal["fp32", "bf16"] = "fp32",
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
        if precision not in ("fp32", "bf16"):
            raise ValueError(f"precision must be 'fp32' or 'bf16', got {precision!r}")
        require_positive_int("accumulate", accumulate)
        require_positive_int("log_every", log_every)
        require_positive_int("checkpoint_every", checkpoint_every)
        self.device = torch.device(device) if device is not None else _device_of(energy)
        self.energy = energy.to(self.device)
        self.objective = objective if _is_objective(objective) else Single(objective)
        if isinstance(self.objective, nn.Module):
            self.objective.to(self.device)
        self.step = 0
        self.log_every = log_every
        players = {name: list(parameters) for name, parameters in self.objective.players(self.energy).items()}
        self._require_kept(players)
        self._players = Players(
            players,
            optimizer=OptimizerSettings() if optimizer is None else optimizer,
            schedule=Cosine() if schedule is None else schedule,
            clip=clip,
            ema=ema,
        )
        self._precision = precision
        self._accumulate = accumulate
        self._compile = compile
        self._guard = guard
        self._callbacks = tuple(callbacks)
        self._checkpoints = checkpoints
        self._checkpoint_every = checkpoint_every
        self._generator = generator_for(self.device, seed)
        self._retries = Retries()
        self._metrics = MetricSums()
        self._to_log: dict[str, float] = {}
        self._stop = StopRequest()
        self._stop_reason: str | None = None
        self._data_state: dict[str, Any] | None = None

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
        if self._checkpoints is not None:
            require_none_later(self._checkpoints, self.step)
        self._players.attach()
        if self._data_state is not None:
            data.load_state_dict(self._data_state)
            self._data_state = None
        self._stop, self._stop_reason = StopRequest(), None
        started, stopped = time.perf_counter(), "failed"
        self.energy.train()
        for callback in self._callbacks:
            callback.on_start(self, steps)
        try:
            with catching_signals(self._stop), flushing_denormals():
                stopped = self._train(data, steps)
        except TrainingDivergedError:
            stopped = "diverged"
            raise
        finally:
            for callback in self._callbacks:
                callback.on_end(self, stopped)
        return FitReport(self.step, time.perf_counter() - started, stopped)

    def _train(self, data: Batches, steps: int) -> str:
        energy = self._prepared_energy(data)
        watch = None if self._guard is None else Watch(self._guard, self.device)
        unfit = self._look(watch)
        if unfit is not None:
            raise TrainingDivergedError(f"{unfit} before training began; start from finite weights")
        good = {} if self._guard is None else self.state_dict(data)
        if self._stop_reason is not None:  # a callback asked before the first round
            return self._stop_reason
        while self.step < steps:
            batches = [next(data).to(self.device) for _ in range(self._accumulate)]
            symptom = self._round(energy, batches, steps, watch)
            saving = keeping = False
            signalled = None
            if symptom is None:
                self.step += 1
                saving = self.step == steps or self.step % self._checkpoint_every == 0
                keeping = saving or (watch is not None and self.step % watch.every == 0)
                # nothing is kept, in memory or on disk, that has not been looked at
                symptom = self._look(watch) if keeping else None
            if symptom is None:
                self._call_back(steps)
                # read once: a signal may come at any moment, also in the callbacks
                signalled = self._stop.reason
                if (signalled is not None or self._stop_reason is not None) and not saving:
                    saving = True
                    symptom = None if keeping else self._look(watch)
            if symptom is not None:
                self._stop_reason = None  # the callback that asked goes back too, and may ask again
                self._recover(symptom, batches, good, data)
                continue
            if watch is not None and (keeping or saving):
                good = self.state_dict(data)
            if saving:
                self._save(data)
            if signalled is not None:
                self._emit(signalled, f"stopped after step {self.step}")
                return "interrupted"
            if self._stop_reason is not None:
                return self._stop_reason
        return "completed"

    def _round(self, energy: Energy, batches: Sequence[Batch], total: int, watch: Watch | None) -> Symptom | None:
        """One round of turns. With several batches their coroutines run in lockstep, so players alternate as with one."""
        coroutines = [self.objective.updates(energy, b, self.step, self._generator) for b in batches]
        while True:
            player = None
            for coroutine in coroutines:
                with self._autocast():
                    update = next(coroutine, None)
                if update is None:
                    continue
                symptom = None if watch is None else watch.sees(update, self.step)
                if symptom is not None:
                    return symptom
                loss = update.loss if len(batches) == 1 else update.loss / len(batches)
                if player not in (None, update.player):
                    raise ValueError(
                        f"one batch gave the turn to {player!r}, the next to {update.player!r}; with accumulate above 1 "
                        "the turns must not depend on the batch"
                    )
                self._players.backward(update.player, loss, first=player is None)
                self._metrics.add(update.metrics)
                player = update.player
            if player is None:
                break
            self._players.step(player, step=self.step, total=total, lr_factor=self._retries.lr_factor)
        self._players.end_round()
        return None

    def _call_back(self, steps: int) -> None:
        for callback in self._callbacks:
            callback.on_step(self)
        if self._callbacks and (self.step % self.log_every == 0 or self.step == steps):
            record = self._record(steps)
            for callback in self._callbacks:
                callback.on_log(self, record)

    # -- divergence ----------------------------------------------------------------------------------------------------

    def _recover(self, symptom: Symptom, batches: Sequence[Batch], good: dict[str, Any], data: Batches) -> None:
        """Go back to the last good state at a lower learning rate, or give up."""
        guard = self._guard
        assert guard is not None  # who else saw the symptom
        noticed, retries = self.step, self._retries.state_dict()
        self.load_state_dict(good, data)
        # the good state does not know of restarts since it was taken
        self._retries.load_state_dict(retries)
        bad_rows = sum(non_finite_rows(batch) for batch in batches)
        if bad_rows:
            self._give_up(
                f"{bad_rows} rows of the batch at step {noticed} hold NaN or infinite values; clean the data", data
            )
        if not self._retries.one_more(guard, noticed=noticed, restart=self.step):
            self._give_up(
                f"{symptom}, also after {guard.tries} restarts with the learning rate down to "
                f"{self._retries.lr_factor:g} of its setting; lower lr, clip gradients, or scale the data",
                data,
            )
        self._emit(
            "guard",
            f"{symptom}; back to step {self.step} with the learning rate at {self._retries.lr_factor:g} of its setting",
        )

    def _give_up(self, reason: str, data: Batches) -> None:
        self._save(data)
        where = f"; the last good state, step {self.step}, is saved" if self._checkpoints is not None else ""
        self._emit("diverged", reason + where)
        raise TrainingDivergedError(f"training diverged: {reason}{where}")

    def _look(self, watch: Watch | None) -> Symptom | None:
        """What an accelerator has noted, and whether parameters are finite: device-to-host syncs."""
        if watch is None:
            return None
        symptom = watch.looks(self.step)
        if symptom is not None:
            return symptom
        broken = self._players.broken()
        return None if broken is None else Symptom(broken[0], "norm of the parameters", broken[1], self.step)

    # -- state ---------------------------------------------------------------------------------------------------------

    def averaged_energy(self) -> nn.Module:
        """A copy of the energy with the moving average's weights, in evaluation mode: what to evaluate and keep."""
        return self._players.averaged_copy(self.energy)

    def adopt_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Make these the energy's weights and their moving average: what early stopping ends with."""
        self.energy.load_state_dict(weights)
        self._players.restart_average(self.energy)

    def state_dict(self, data: Batches) -> dict[str, Any]:
        """Everything that the next step depends on, copied: tensors, numbers, strings, lists and dicts."""
        state = {
            "step": self.step,
            "retries": self._retries.state_dict(),
            "modules": {name: module.state_dict() for name, module in self._modules().items()},
            "players": self._players.state_dict(),
            "layout": self._layout(),
            "generator": self._generator.get_state(),
            "data": data.state_dict(),
            "callbacks": [callback.state_dict() for callback in self._callbacks],
            "log": {"metrics": self._metrics.state_dict(), "extra": self._to_log},
        }
        return copy.deepcopy(state)

    def load_state_dict(self, state: Mapping[str, Any], data: Batches | None = None) -> None:
        """Take up a saved state; ``data`` are moved there now, or else by the next :meth:`fit`.

        Raises:
            ValueError: the state belongs to another network, objective, set of players or of callbacks, or ema.
        """
        modules, callbacks = self._modules(), state["callbacks"]
        self._players.require_fits(state["players"])
        if self._layout() != state["layout"]:
            raise ValueError(
                "the checkpoint's players have other parameters, or in another order; resume with the network it was "
                "trained with"
            )
        if set(modules) != set(state["modules"]):
            raise ValueError(
                f"the checkpoint has states of {sorted(state['modules'])}, this run of {sorted(modules)}; "
                "resume with the objective it was trained with"
            )
        if len(callbacks) != len(self._callbacks):
            raise ValueError(
                f"the checkpoint has {len(callbacks)} callbacks, this run has {len(self._callbacks)}; "
                "resume with the same callbacks in the same order"
            )
        for name, module in modules.items():
            try:
                module.load_state_dict(state["modules"][name])
            except RuntimeError as error:
                what = "network" if name == "energy" else name
                raise ValueError(
                    f"the checkpoint does not fit the {what}: {str(error).splitlines()[-1].strip().rstrip('.')}; "
                    "build it as it was trained"
                ) from error
        self._players.load_state_dict(state["players"])
        self._generator.set_state(state["generator"])
        self.step = state["step"]
        self._retries.load_state_dict(state["retries"])
        for callback, saved in zip(self._callbacks, callbacks, strict=True):
            callback.load_state_dict(copy.deepcopy(saved))
        self._metrics.load_state_dict(state["log"]["metrics"], self.device)
        self._to_log = dict(state["log"]["extra"])
        if data is not None:
            data.load_state_dict(state["data"])
        else:
            self._data_state = state["data"]

    def resume(self, checkpoint: Path) -> None:
        """Take up a checkpoint; the next :meth:`fit` goes on bit for bit as the interrupted one would have.

        One thing may differ: where the guard later steps in, it goes back to the newest state that was looked at, and an
        interruption is one more such state.

        Raises:
            CheckpointError: the file is missing or damaged.
            ValueError: it belongs to another run.
        """
        self.load_state_dict(load_checkpoint(checkpoint))

    def _save(self, data: Batches) -> None:
        if self._checkpoints is not None:
            save_checkpoint(self._checkpoints, self.state_dict(data), step=self.step)

    @property
    def interrupted_by(self) -> str | None:
        """The name of the signal that ended the last fit, if one did."""
        return self._stop.reason

    # -- for callbacks -------------------------------------------------------------------------------------------------

    def request_stop(self, reason: str) -> None:
        """End training after this step."""
        self._stop_reason = reason

    def add_to_log(self, name: str, value: float) -> None:
        """Put a number into the next record."""
        self._to_log[name] = value

    def _record(self, total: int) -> dict[str, float]:
        rates = self._players.learning_rates(step=self.step - 1, total=total, lr_factor=self._retries.lr_factor)
        record = {"step": self.step, **self._metrics.means(), **self._to_log, **rates}
        self._to_log = {}
        return record

    def _emit(self, kind: str, message: str) -> None:
        for callback in self._callbacks:
            callback.on_event(self, kind, message)

    # -- small things --------------------------------------------------------------------------------------------------

    def _layout(self) -> dict[str, list[str]]:
        """Names of each player's parameters in order: what the flat buffers of its optimizer mean."""
        names = {id(p): f"{m}.{n}" for m, module in self._modules().items() for n, p in module.named_parameters()}
        return {player: [names[id(p)] for p in group] for player, group in self._players.parameters.items()}

    def _modules(self) -> dict[str, nn.Module]:
        """Whose states a checkpoint holds."""
        candidates = {"energy": self.energy, "objective": self.objective}
        return {name: module for name, module in candidates.items() if isinstance(module, nn.Module)}

    def _require_kept(self, players: Mapping[str, Sequence[Parameter]]) -> None:
        """Every trained parameter must be in a checkpoint."""
        kept = {id(p) for module in self._modules().values() for p in module.parameters()}
        for name, parameters in players.items():
            if any(id(p) not in kept for p in parameters):
                raise ValueError(
                    f"player {name!r} has parameters that neither the energy nor the objective registers, so no checkpoint "
                    "would hold them; make the objective an nn.Module"
                )

    def _prepared_energy(self, data: Batches) -> Energy:
        if not self._compile:
            return self.energy
        state = data.state_dict()
        probe = next(data).to(self.device)
        data.load_state_dict(state)
        energy, problem = compiled_or_eager(self.energy, probe.x, self._autocast)
        if problem is not None:
            self._emit("compile", problem)
        return energy

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)


def _is_objective(candidate: Loss | Objective) -> TypeIs[Objective]:
    return hasattr(candidate, "updates") and hasattr(candidate, "players")


def _device_of(energy: nn.Module) -> torch.device:
    parameter = next(energy.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device
