"""What a long experiment has found so far, so that it can be stopped at any moment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .record import sources

__all__ = ["Notes"]


class Notes:
    """Answers by question in a file of JSON lines. Those that other code or other versions have made count for nothing.

    A line that a kill has cut is left out.

    Args:
        path: of the file, made with its first line.
        made_by: what answers depend on, as text that changes with it; this package's sources by default.

    Attributes:
        added: number of answers that were not there before.

    Raises:
        ValueError: the file holds other things than notes.
    """

    def __init__(self, path: Path, *, made_by: str | None = None) -> None:
        self._path, self._made_by = path, sources() if made_by is None else made_by
        self._answers: dict[str, dict[str, Any]] = {}
        self.added = 0
        if not path.is_file():
            return
        others = 0
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                note = json.loads(line)
            except ValueError:
                continue
            if not isinstance(note, dict) or not {"made_by", "asked", "found"} <= note.keys():
                raise ValueError(f"{path} holds other things than an experiment's notes; name another file")
            if note["made_by"] == self._made_by:
                self._answers[_key(note["asked"])] = note["found"]
            else:
                others += 1
        print(f"{path}: {len(self._answers)} answers are taken up, {others} were made by other code", flush=True)  # noqa: T201

    def __contains__(self, asked: Mapping[str, Any]) -> bool:
        return _key(asked) in self._answers

    def __getitem__(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        return self._answers[_key(asked)]

    def add(self, asked: Mapping[str, Any], found: dict[str, Any]) -> None:
        """Write it down."""
        self._answers[_key(asked)] = found
        self.added += 1
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            # on a line of its own, whatever a kill has left before
            file.write("\n" + json.dumps({"made_by": self._made_by, "asked": dict(asked), "found": found}))


def _key(asked: Mapping[str, Any]) -> str:
    return json.dumps(asked, sort_keys=True)
