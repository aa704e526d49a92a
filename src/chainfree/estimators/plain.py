"""Records as JSON, with NumPy's numbers in them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

__all__ = ["as_json"]


def as_json(record: Any, *, indent: int | None = None) -> str:
    """The record as text.

    Raises:
        TypeError: a value that no JSON has.
    """
    return json.dumps(record, indent=indent, default=_number)


def _number(value: Any) -> int | float | bool:
    if isinstance(value, np.generic) and not isinstance(value, np.character):
        plain: int | float | bool = value.item()
        return plain
    raise TypeError(f"{value!r} is no plain value")
