"""Checks of lists of settings, as config files give them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["require_each", "require_seeds"]


def require_each(name: str, values: Sequence[Any], require: Callable[[str, Any], None]) -> None:
    """Raise ``ValueError`` unless ``values`` is a list of at least one value that ``require`` lets pass, each once."""
    if isinstance(values, str) or not isinstance(values, Sequence) or not values:
        raise ValueError(f"{name} must be a list of at least one number, got {values!r}")
    for value in values:
        require(name, value)
    if len(set(values)) != len(values):
        raise ValueError(f"{name} has a number more than once: {list(values)!r}; name each once")


def require_seeds(seeds: Sequence[int]) -> None:
    """Raise ``ValueError`` unless these are seeds of torch's generators, at least one."""
    require_each("seeds", seeds, _require_seed)


def _require_seed(name: str, seed: Any) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**62:
        raise ValueError(f"{name} must be whole numbers of at least 0, got {seed!r}")
