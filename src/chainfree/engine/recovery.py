"""The guard at work: what it looks at in the course of a fit, and the state it goes back to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..typing import Batch, Batches, Update
from .guard import Guard, Symptom, Watch, non_finite_rows
from .state import TrainingState

__all__ = ["Recovery"]


class Recovery:
    """Looks, keeps the last good state in memory and goes back to it.

    Args:
        guard: what counts as divergence; with ``None`` nothing is looked at and nothing kept.
        state: of the training, as it is when a fit begins.
    """

    def __init__(self, guard: Guard | None, state: TrainingState) -> None:
        self._guard = guard
        self._state = state
        self._watch = None if guard is None else Watch(guard, state.generator.device)
        self._good: dict[str, Any] = {}

    def sees(self, update: Update) -> Symptom | None:
        """A symptom in this update; see :meth:`Watch.sees`."""
        return None if self._watch is None else self._watch.sees(update, self._state.step)

    def is_due(self) -> bool:
        """Whether this step's state is to be looked at and kept."""
        return self._watch is not None and self._state.step % self._watch.every == 0

    def look(self) -> Symptom | None:
        """What an accelerator has noted, and whether parameters are finite: device-to-host syncs."""
        if self._watch is None:
            return None
        symptom = self._watch.looks(self._state.step)
        if symptom is not None:
            return symptom
        broken = self._state.players.broken()
        return None if broken is None else Symptom(broken[0], "norm of the parameters", broken[1], self._state.step)

    def keep(self, data: Batches) -> None:
        """Make this state, which has been looked at, the last good one."""
        if self._guard is not None:
            self._good = self._state.state_dict(data)

    def climb(self) -> str | None:
        """Raise a lowered learning rate if enough steps were good; returns what to tell people, if it was.

        Only where a look is due: an interruption looks too, and must not move the climb.
        """
        if self._guard is None or not self.is_due() or not self._state.retries.climb(self._guard, self._state.step):
            return None
        return f"learning rate back at {self._state.retries.lr_factor:g} of its setting after step {self._state.step}"

    def go_back(self, symptom: Symptom, batches: Sequence[Batch], data: Batches) -> str | None:
        """Return to the last good state at a lower learning rate; returns why that is of no use, if it is not."""
        guard, retries = self._guard, self._state.retries
        assert guard is not None  # who else saw the symptom
        noticed, so_far = self._state.step, retries.state_dict()
        self._state.load_state_dict(self._good, data)
        # the good state does not know of restarts since it was taken
        retries.load_state_dict(so_far)
        bad_rows = sum(non_finite_rows(batch) for batch in batches)
        if bad_rows:
            return f"{bad_rows} rows of the batch at step {noticed} hold NaN or infinite values; clean the data"
        if not retries.one_more(guard, noticed=noticed, restart=self._state.step):
            return (
                f"{symptom}, also after {guard.tries} restarts with the learning rate down to {retries.lr_factor:g} of its "
                "setting; lower lr, clip gradients, or scale the data"
            )
        return None
