"""What endless streams share whose position is one integer."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["event_text", "generator_at", "require_whole", "saved_position"]


def generator_at(device: torch.device, purpose: str, seed: int, number: int) -> torch.Generator:
    """The source of randomness for one purpose at one counter: a pure function of its arguments."""
    # hashed, not added: seed 0 in epoch 1 must not repeat seed 1 in epoch 0
    digest = hashlib.sha256(f"chainfree {purpose} {seed} {number}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def event_text(x: Tensor) -> str:
    """The shape of a row, as it stands in a saved position."""
    return "x".join(str(length) for length in x.shape[1:])


def require_whole(name: str, value: int) -> None:
    """Refuse what is no ``int`` with a ``ValueError``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} must be a whole number, got {value!r}")


def saved_position(state: Mapping[str, Any], identity: Mapping[str, Any]) -> int:
    """The counter in a saved state; ``ValueError`` if that is of another stream or damaged."""
    for name, here in identity.items():
        if name not in state or state[name] != here:
            raise ValueError(
                f"the saved position belongs to other data: {name} was {state.get(name)!r} and is {here!r} here; "
                "resume with the same data, size and seed"
            )
    position = state.get("position")
    if isinstance(position, bool) or not isinstance(position, int) or position < 0:
        raise ValueError(f"the saved position must be a whole number of at least 0, got {position!r}; start anew")
    return position
