"""A metric on held-out data while training, and stopping when it gets no better."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from ...checks import require_positive_int
from .base import Callback

if TYPE_CHECKING:
    from ..engine import Engine

__all__ = ["HeldOut"]


class HeldOut(Callback):
    """Evaluates what was trained every so often; with ``patience``, stops early and puts the best weights back.

    The best weights are those of all modules, the energy's and the objective's, buffers included: a generator ends at the
    same step as its energy.

    Args:
        metric: averaged copies of the modules in ``of`` to a number, lower is better. It must use a generator of its own,
            made afresh from a fixed seed each time, so that it compares like with like and leaves the training's randomness
            alone.
        of: what the metric is given, one argument for each: the energy, the objective, or modules inside them, as
            :meth:`Engine.averaged` takes them. The energy alone if there are none; for a metric of a generator and its
            energy, ``of=(energy, objective.generator)``.
        every: steps between evaluations.
        patience: evaluations without a new best before training stops; ``None`` only watches.
        from_start: whether the weights that training starts from are looked at too, and may be the best.
        name: under which the metric is logged.
    """

    def __init__(
        self,
        metric: Callable[..., float],
        *,
        of: Sequence[nn.Module] = (),
        every: int = 500,
        patience: int | None = None,
        from_start: bool = False,
        name: str = "held_out_loss",
    ) -> None:
        require_positive_int("every", every)
        if patience is not None:
            require_positive_int("patience", patience)
        self._metric = metric
        self._of = tuple(of)
        self._every = every
        self._patience = patience
        self._from_start = from_start
        self._name = name
        self.best: float | None = None
        self.best_step = 0
        self._best_weights: dict[str, dict[str, Any]] = {}
        self._since_best = 0

    def on_start(self, engine: Engine, total_steps: int) -> None:
        """A resumed run that had stopped early stops again."""
        self._averaged(engine)  # a module that is not trained here is refused now, not after the first ``every`` steps
        if self._from_start and engine.step == 0:
            self._look(engine)
        self._stop_if_due(engine)

    def on_step(self, engine: Engine) -> None:
        """Evaluate when it is time."""
        if engine.step % self._every:
            return
        engine.add_to_log(self._name, self._look(engine))
        self._stop_if_due(engine)

    def _look(self, engine: Engine) -> float:
        value = self._metric(*self._averaged(engine))
        # a NaN is never the best, not even the first
        if value < (math.inf if self.best is None else self.best):
            self.best, self.best_step, self._since_best = value, engine.step, 0
            if self._patience is not None:
                self._best_weights = engine.averaged_weights()
        else:
            self._since_best += 1
        return value

    def _averaged(self, engine: Engine) -> list[nn.Module]:
        return [engine.averaged(module) for module in self._of or (engine.energy,)]

    def _stop_if_due(self, engine: Engine) -> None:
        if self._patience is not None and self._since_best >= self._patience:
            best = "infinity" if self.best is None else f"{self.best:.4g}"
            engine.request_stop(f"no better {self._name} than {best} at step {self.best_step}")

    def on_end(self, engine: Engine, stopped: str) -> None:
        """Put the best weights back, if training ended of itself."""
        if self._best_weights and stopped not in ("diverged", "interrupted", "failed"):
            engine.adopt_weights(self._best_weights)

    def state_dict(self) -> dict[str, Any]:
        """Best value so far and the weights of all modules then."""
        return {
            "best": self.best,
            "best_step": self.best_step,
            "since_best": self._since_best,
            "best_weights": self._best_weights,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the search where it was."""
        self.best = state["best"]
        self.best_step = state["best_step"]
        self._since_best = state["since_best"]
        self._best_weights = state["best_weights"]
