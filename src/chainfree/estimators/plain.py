"""Records as JSON, with NumPy's numbers in them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["as_json", "without_lists"]


def as_json(record: Any, *, indent: int | None = None) -> str:
    """The record as text.

    Raises:
        TypeError: a value that no JSON has.
    """
    return json.dumps(record, indent=indent, default=_number)


def without_lists(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they were before JSON made lists of their tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


def _number(value: Any) -> int | float | bool:
    if isinstance(value, np.generic) and not isinstance(value, np.character):
        plain: int | float | bool = value.item()
        return plain
    raise TypeError(f"{value!r} is no plain value")
