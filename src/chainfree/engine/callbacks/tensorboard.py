"""Metrics for TensorBoard (extra ``tensorboard``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .base import Callback

if TYPE_CHECKING:
    from ..engine import Engine

__all__ = ["TensorBoard"]


class TensorBoard(Callback):
    """Writes every logged metric as a scalar.

    Args:
        folder: where the event files go.

    Raises:
        ImportError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError("TensorBoard is missing: pip install 'chainfree[tensorboard]'") from error
        self._make = SummaryWriter
        self._folder = folder
        self._writer: Any = None

    def on_start(self, engine: Engine, total_steps: int) -> None:
        """Open an event file that tells TensorBoard to forget what lies beyond the engine's step."""
        # the writer looks at purge_step only while it opens its file
        self._writer = self._make(str(self._folder), purge_step=engine.step + 1)

    def on_log(self, engine: Engine, record: Mapping[str, float]) -> None:
        """One scalar a metric."""
        for name, value in record.items():
            if name != "step":
                self._writer.add_scalar(name, value, engine.step)

    def on_event(self, engine: Engine, kind: str, message: str) -> None:
        """Events as text."""
        self._writer.add_text(kind, message, engine.step)

    def on_end(self, engine: Engine, stopped: str) -> None:
        """Flush."""
        if self._writer is not None:
            self._writer.close()
