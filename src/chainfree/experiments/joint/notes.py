"""What a long experiment has found so far, so that it can be stopped at any moment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..record import commit

__all__ = ["Notes"]


class Notes:
    """Answers by question in a file of JSON lines. Those of another commit count for nothing.

    A line that a kill has cut is left out. Where the working folder differs from its commit nothing is taken up, for nobody
    knows what made it.

    Args:
        path: of the file, made with its first line.

    Attributes:
        added: number of answers that were not there before.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._commit = path, commit()
        self._answers: dict[str, dict[str, Any]] = {}
        self.added = 0
        if not path.is_file() or not self._commit.isalnum() or self._commit == "unknown":
            return
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                note = json.loads(line)
            except ValueError:
                continue
            if note["commit"] == self._commit:
                self._answers[_key(note["asked"])] = note["found"]

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
            file.write("\n" + json.dumps({"commit": self._commit, "asked": dict(asked), "found": found}))


def _key(asked: Mapping[str, Any]) -> str:
    return json.dumps(asked, sort_keys=True)
