"""Names and library messages as they stand in one-line refusals."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

__all__ = ["closest", "listed", "one_line"]


def one_line(error: BaseException) -> str:
    """A library's message on one line, cut where it runs on."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."


def closest(name: str, names: Sequence[str]) -> str:
    """A guess at what a misspelt name meant, in brackets; empty without one."""
    matches = difflib.get_close_matches(str(name), names, n=3)
    return f" (did you mean {' or '.join(repr(match) for match in matches)}?)" if matches else ""


def listed(names: Sequence[str]) -> str:
    """The first twenty names, quoted, and how many more there are."""
    shown = ", ".join(repr(name) for name in names[:20]) or "none"
    return shown if len(names) <= 20 else f"{shown} and {len(names) - 20} more"
