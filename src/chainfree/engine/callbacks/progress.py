"""A progress bar with rate, time left and the latest metrics."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from .base import Callback

if TYPE_CHECKING:
    from ..engine import Engine

__all__ = ["Progress"]


class Progress(Callback):
    """tqdm on standard error: a live bar on a terminal or in a notebook, a line every ten seconds in a log file.

    Args:
        show: names of the metrics beside the bar.
    """

    def __init__(self, *, show: tuple[str, ...] = ("loss", "held_out_loss", "lr")) -> None:
        self._show = show
        self._bar: Any = None

    def on_start(self, engine: Engine, total_steps: int) -> None:
        """Open the bar at the step already reached."""
        live = sys.stderr.isatty()
        self._bar = tqdm(
            total=total_steps,
            initial=engine.step,
            desc="training",
            unit="step",
            dynamic_ncols=live,
            ncols=None if live else 100,
            mininterval=0.2 if live else 10.0,
            ascii=None if live else " #",
        )

    def on_step(self, engine: Engine) -> None:
        """Advance; the guard may have moved back."""
        self._bar.update(engine.step - self._bar.n)

    def on_log(self, engine: Engine, record: Mapping[str, float]) -> None:
        """Show the chosen metrics."""
        shown = {name: f"{record[name]:.4g}" for name in self._show if name in record}
        self._bar.set_postfix(shown, refresh=False)

    def on_event(self, engine: Engine, kind: str, message: str) -> None:
        """Print above the bar."""
        tqdm.write(f"{kind}: {message}", file=sys.stderr)

    def on_end(self, engine: Engine, stopped: str) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
