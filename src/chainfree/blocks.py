"""How many rows are taken at once where nothing but memory says how many."""

from __future__ import annotations

import math

from torch import Tensor

__all__ = ["rows_at_a_time"]

_MOST_ROWS, _MOST_ENTRIES = 1 << 16, 1 << 22


def rows_at_a_time(x: Tensor) -> int:
    """How many of the rows ``(N, *event)`` an energy is asked for at once: 65,536 short ones, fewer images."""
    return max(1, min(_MOST_ROWS, _MOST_ENTRIES // max(1, math.prod(x.shape[1:]))))
