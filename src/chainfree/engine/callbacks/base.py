"""What a callback can hook into."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..engine import Engine

__all__ = ["Callback"]


class Callback:
    """Hooks around training; every one does nothing unless overridden.

    ``on_step`` runs every step and must not bring anything to the host; what needs numbers belongs in ``on_log``.
    """

    def on_start(self, engine: Engine, total_steps: int) -> None:
        """Before the first step of a fit."""

    def on_step(self, engine: Engine) -> None:
        """After every step; ``engine.step`` counts it already."""

    def on_log(self, engine: Engine, record: Mapping[str, float]) -> None:
        """Every ``engine.log_every`` steps, with the means of the metrics since the last time."""

    def on_event(self, engine: Engine, kind: str, message: str) -> None:
        """Something happened that a person should know: the guard stepped in, a fallback was taken."""

    def on_end(self, engine: Engine, stopped: str) -> None:
        """After the last step, also of a fit that ends with an error.

        ``stopped`` is as in :class:`FitReport`, or ``"diverged"``, or ``"failed"`` for any other exception.
        """

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know: tensors, numbers, strings, lists, dicts."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a saved state."""
