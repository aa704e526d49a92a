"""Generators from seeds."""

from __future__ import annotations

import numpy as np
import torch

__all__ = ["generator_for", "mixed_seed"]


def mixed_seed(*parts: int) -> int:
    """One 63-bit seed from several numbers, so that (0, 1) and (1, 0) have nothing in common."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator_for(device: torch.device, seed: int, rank: int = 0) -> torch.Generator:
    """The engine's generator on a device, for one process of possibly several.

    Raises:
        ValueError: a negative seed.
    """
    if seed < 0:
        raise ValueError(f"seed must be at least 0, got {seed!r}")
    return torch.Generator(device=device).manual_seed(mixed_seed(seed, rank))
