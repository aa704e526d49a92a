"""The divergence guard: training never goes on from a broken state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..checks import require_positive, require_positive_int
from ..typing import Batch, Update

__all__ = ["Guard", "Retries", "Symptom", "TrainingDivergedError", "Watch", "non_finite_rows"]


class TrainingDivergedError(RuntimeError):
    """Training diverged and lower learning rates did not help; the last good state is restored (and on disk)."""


@dataclass(frozen=True, kw_only=True)
class Guard:
    """When to call training diverged, and how often to try again.

    Losses and mean energies are watched at every step. On the CPU a bad one stops the step before it is taken. On an
    accelerator the worst one is kept on the device and looked at every ``every`` steps, so that nothing waits; the state
    restored is older than anything bad either way.

    Args:
        limit: magnitude in nats above which a loss or a mean energy counts as runaway; an objective may know narrower ones of
            its own (:class:`chainfree.typing.Update`).
        every: steps between good states kept in memory (and between looks, on an accelerator).
        tries: how often the last good state is restored, each time at ``backoff`` times the learning rate, before
            :class:`TrainingDivergedError`. After ``10 * every`` good steps the count starts afresh.
        backoff: in (0, 1). The rate climbs back by the same factor, at every look that follows on ``10 * every`` good steps
            since it last changed, until it is what the schedule says.
    """

    limit: float = 1e6
    every: int = 200
    tries: int = 3
    backoff: float = 0.1

    def __post_init__(self) -> None:
        require_positive("limit", self.limit)
        require_positive_int("every", self.every)
        require_positive_int("tries", self.tries)
        if not 0 < self.backoff < 1:
            raise ValueError(f"backoff must be between 0 and 1, got {self.backoff!r}")


@dataclass(frozen=True)
class Symptom:
    """What was seen: which player and quantity, its value, and at which step it was noticed."""

    player: str
    quantity: str
    value: float
    step: int

    def __str__(self) -> str:
        return f"{self.quantity} of player '{self.player}' was {self.value:g} at step {self.step}"


class Retries:
    """How often training was restarted, and at which share of the learning rate it runs now."""

    def __init__(self) -> None:
        # all shares on the way down: climbing back retraces them, without the rounding of a division
        self._shares = [1.0]
        self._tries = 0
        self._last_step = 0

    @property
    def lr_factor(self) -> float:
        """The share of the learning rate, 1 unless training was restarted."""
        return self._shares[-1]

    def one_more(self, guard: Guard, *, noticed: int, restart: int) -> bool:
        """Lower the rate for a restart at step ``restart``; ``False`` when the tries are used up."""
        fresh = self._is_long_ago(guard, noticed)
        self._tries = 1 if fresh else self._tries + 1
        self._last_step = restart
        if self._tries > guard.tries:
            return False
        self._shares.append(self.lr_factor * guard.backoff)
        return True

    def climb(self, guard: Guard, step: int) -> bool:
        """Take back one lowering of the rate if enough good steps were done with it; whether it was."""
        if len(self._shares) == 1 or not self._is_long_ago(guard, step):
            return False
        self._shares.pop()
        self._tries, self._last_step = 0, step
        return True

    def state_dict(self) -> dict[str, Any]:
        """A few numbers."""
        return {"shares": list(self._shares), "tries": self._tries, "last_step": self._last_step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a saved state."""
        self._shares = list(state["shares"])
        self._tries, self._last_step = state["tries"], state["last_step"]

    def _is_long_ago(self, guard: Guard, step: int) -> bool:
        """Whether the last restart or climb is."""
        return step - self._last_step >= 10 * guard.every


class Watch:
    """Looks at every update of a run on behalf of a :class:`Guard`."""

    def __init__(self, guard: Guard, device: torch.device) -> None:
        self.every = guard.every
        self._guard = guard
        self._immediate = device.type == "cpu"
        self._worst: dict[tuple[str, str], Tensor] = {}
        self._limits: dict[tuple[str, str], float] = {}

    def sees(self, update: Update, step: int) -> Symptom | None:
        """A symptom in this update, on the CPU; on an accelerator it is only noted."""
        for quantity, value in update.watched.items():
            key = (update.player, quantity)
            self._limits[key] = min(self._guard.limit, update.limits.get(quantity, self._guard.limit))
            if self._immediate:
                symptom = self._judge(key, value.item(), step)
                if symptom is not None:
                    return symptom
            else:
                # maximum() keeps a NaN once it has one
                self._worst[key] = torch.maximum(self._worst.get(key, value.abs()), value.abs())
        return None

    def looks(self, step: int) -> Symptom | None:
        """A symptom among the noted ones: a device-to-host sync, so only every ``guard.every`` steps."""
        worst, self._worst = self._worst, {}
        for key, value in worst.items():
            symptom = self._judge(key, value.item(), step)
            if symptom is not None:
                return symptom
        return None

    def _judge(self, key: tuple[str, str], value: float, step: int) -> Symptom | None:
        healthy = math.isfinite(value) and abs(value) <= self._limits[key]
        return None if healthy else Symptom(*key, value, step)


def non_finite_rows(batch: Batch) -> int:
    """How many rows of a batch hold a NaN or an infinity."""
    if not len(batch) or not batch.x.is_floating_point():
        return 0
    return int((~torch.isfinite(batch.x)).reshape(len(batch), -1).any(dim=1).sum())
