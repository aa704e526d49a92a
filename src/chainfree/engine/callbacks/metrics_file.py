"""Metrics as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ..atomic import write_text
from .base import Callback

if TYPE_CHECKING:
    from ..engine import Engine

__all__ = ["MetricsFile", "read_metrics"]


class MetricsFile(Callback):
    """Appends one JSON object a log step, ``{"step": ..., "loss": ..., ...}``, and events as ``{"step", "event"}``.

    On resume, and when the guard goes back, lines beyond the step gone back to are dropped, so every step stands once.

    Args:
        path: the file, usually ``<run>/metrics.jsonl``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None
        self._last_step = 0.0

    def on_start(self, engine: Engine, total_steps: int) -> None:
        """Open the file, cut back to the engine's step."""
        self._open(engine.step)

    def on_log(self, engine: Engine, record: Mapping[str, float]) -> None:
        """Append the record."""
        self._append(record)

    def on_event(self, engine: Engine, kind: str, message: str) -> None:
        """Append the event."""
        self._append({"step": engine.step, "event": kind, "message": message})

    def on_end(self, engine: Engine, stopped: str) -> None:
        """Close the file."""
        self._close()

    def _open(self, step: float) -> None:
        self._close()
        kept = [record for record in read_metrics(self._path) if record["step"] <= step]
        write_text(self._path, "".join(json.dumps(record) + "\n" for record in kept))
        self._file = self._path.open("a", encoding="utf-8", buffering=1)
        self._last_step = step

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _append(self, record: Mapping[str, Any]) -> None:
        if self._file is None:
            return
        if record["step"] < self._last_step:  # the guard went back
            self._open(record["step"])
        self._last_step = record["step"]
        self._file.write(json.dumps(record) + "\n")


def read_metrics(path: Path) -> list[dict[str, float]]:
    """All whole lines of a metrics file; an unfinished last line (a kill in mid-write) is left out."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    return [json.loads(line) for line in whole.splitlines()]
