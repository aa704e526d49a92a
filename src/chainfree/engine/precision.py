"""The numbers that energies are computed in."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, get_args

import torch

__all__ = ["Precision", "autocast_for", "require_precision"]

Precision = Literal["fp32", "bf16"]
"""``"bf16"`` runs energies under autocast; parameters and losses stay float32."""


def autocast_for(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """Where energies are evaluated in that precision."""
    return nullcontext() if precision == "fp32" else torch.autocast(device.type, dtype=torch.bfloat16)


def require_precision(value: str) -> None:
    """Raise ``ValueError`` unless it is a :data:`Precision`."""
    if value not in get_args(Precision):
        raise ValueError(f"precision must be {' or '.join(map(repr, get_args(Precision)))}, got {value!r}")
