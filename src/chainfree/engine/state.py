"""Everything that the next step depends on, and its way into a checkpoint and back."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..typing import Batches
from .callbacks import Callback
from .guard import Retries
from .metric_sums import MetricSums
from .modules import TrainedModules
from .players import Players

__all__ = ["TrainingState"]


class TrainingState:
    """What changes while an engine trains.

    Args:
        modules: the energy and the objective.
        players: their optimizers and the moving average.
        generator: of all randomness in training.
        callbacks: whose states are part of it.
    """

    def __init__(
        self, modules: TrainedModules, players: Players, generator: torch.Generator, callbacks: Sequence[Callback]
    ) -> None:
        self.modules = modules
        self.players = players
        self.generator = generator
        self.callbacks = tuple(callbacks)
        self.step = 0
        self.retries = Retries()
        self.metrics = MetricSums()
        self.to_log: dict[str, float] = {}
        self._data: Mapping[str, Any] | None = None

    def state_dict(self, data: Batches) -> dict[str, Any]:
        """All of it, copied: tensors, numbers, strings, lists and dicts."""
        state = {
            "step": self.step,
            "retries": self.retries.state_dict(),
            "modules": self.modules.state_dict(),
            "players": self.players.state_dict(),
            "layout": self._layout(),
            "generator": self.generator.get_state(),
            "data": data.state_dict(),
            "callbacks": [callback.state_dict() for callback in self.callbacks],
            "log": {"metrics": self.metrics.state_dict(), "extra": self.to_log},
        }
        return copy.deepcopy(state)

    def load_state_dict(self, state: Mapping[str, Any], data: Batches | None = None) -> None:
        """Take up a saved state; ``data`` are moved there now, or else by :meth:`move`.

        Raises:
            ValueError: the state belongs to another network, objective, set of players or of callbacks, or ema.
        """
        callbacks = state["callbacks"]
        self.players.require_fits(state["players"])
        if self._layout() != state["layout"]:
            raise ValueError(
                "the checkpoint's players have other parameters, or in another order; resume with the network it was "
                "trained with"
            )
        self.modules.require_fits(state["modules"])
        if len(callbacks) != len(self.callbacks):
            raise ValueError(
                f"the checkpoint has {len(callbacks)} callbacks, this run has {len(self.callbacks)}; "
                "resume with the same callbacks in the same order"
            )
        self.modules.load_state_dict(state["modules"])
        self.players.load_state_dict(state["players"])
        self.generator.set_state(state["generator"])
        self.step = state["step"]
        self.retries.load_state_dict(state["retries"])
        for callback, saved in zip(self.callbacks, callbacks, strict=True):
            callback.load_state_dict(copy.deepcopy(saved))
        self.metrics.load_state_dict(state["log"]["metrics"], self.generator.device)
        self.to_log = dict(state["log"]["extra"])
        if data is not None:
            data.load_state_dict(state["data"])
        else:
            self._data = state["data"]

    def move(self, data: Batches) -> None:
        """Move the stream to where the checkpoint was taken, if that has not been done.

        Raises:
            ValueError: the checkpoint was taken with other data; it still waits for the right ones.
        """
        if self._data is not None:
            data.load_state_dict(self._data)
            self._data = None

    def record(self, total: int) -> dict[str, float]:
        """What there is to log of the last step of ``total``; sums start anew. A device-to-host sync."""
        rates = self.players.learning_rates(step=self.step - 1, total=total, lr_factor=self.retries.lr_factor)
        record = {"step": self.step, **self.metrics.means(), **self.to_log, **rates}
        self.to_log = {}
        return record

    def _layout(self) -> dict[str, list[str]]:
        return self.modules.layout(self.players.parameters)
