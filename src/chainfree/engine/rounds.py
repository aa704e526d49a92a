"""One round: every player that the objective names takes its turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch

from ..typing import Batch, Energy, Objective, Update
from .guard import Symptom
from .state import TrainingState

__all__ = ["Rounds"]


class Rounds:
    """Plays the rounds of one fit.

    Args:
        objective: whose coroutine yields the turns.
        energy: as the objective is to call it, compiled or not.
        state: whose players are stepped.
        total: rounds of the schedule. It counts rounds, whether a player has one turn in them, several or none.
        autocast: makes the context that energies are evaluated in.
        sees: looks at every update before its step, and may object.
    """

    def __init__(
        self,
        objective: Objective,
        energy: Energy,
        state: TrainingState,
        *,
        total: int,
        autocast: Callable[[], AbstractContextManager[Any]],
        sees: Callable[[Update], Symptom | None],
    ) -> None:
        self._objective = objective
        self._energy = energy
        self._state = state
        self._total = total
        self._autocast = autocast
        self._sees = sees
        # a walk over all modules: once a fit, not every step
        self._constraints = state.modules.constraints(state.players.parameters)

    def play(self, batches: Sequence[Batch]) -> Symptom | None:
        """One round. With several batches their coroutines run in lockstep, so players alternate as with one."""
        state = self._state
        coroutines = [self._objective.updates(self._energy, b, state.step, state.generator) for b in batches]
        while True:
            turns: list[str | None] = []
            for coroutine in coroutines:
                with self._autocast():
                    update = next(coroutine, None)
                turns.append(None if update is None else update.player)
                if turns[-1] != turns[0]:
                    raise ValueError(
                        f"one batch gave the turn to {turns[0]!r}, the next to {turns[-1]!r}; with accumulate above 1 "
                        "the turns must not depend on the batch"
                    )
                if update is None:
                    continue
                symptom = self._sees(update)
                if symptom is not None:
                    return symptom
                loss = update.loss if len(batches) == 1 else update.loss / len(batches)
                state.players.backward(update.player, loss, first=len(turns) == 1)
                state.metrics.add(update.metrics)
            player = turns[0]
            if player is None:
                break
            state.players.step(player, step=state.step, total=self._total, lr_factor=state.retries.lr_factor)
            self._constrain(player)
        state.players.end_round()
        return None

    def _constrain(self, player: str) -> None:
        if self._constraints[player]:
            with torch.no_grad():
                for constrain in self._constraints[player]:
                    constrain()
