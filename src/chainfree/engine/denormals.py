"""Numbers too small for the processor's fast path, rounded to zero while training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["flushing_denormals"]


@contextmanager
def flushing_denormals() -> Iterator[None]:
    """Round float32 below 1.2e-38 to zero, and put the mode back afterwards.

    Contrastive weights exp(E(x) - E(x')), softplus units that are off and Adam's moments of dead units all drift there,
    and arithmetic on them is many times slower: a third of the step of a softplus network after a few hundred steps.
    The mode belongs to the calling thread and the threads it starts.
    """
    was_on = _is_on()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(was_on)


def _is_on() -> bool:
    # torch has no question for it; a denormal that survives a multiplication by one is the answer
    return float(torch.full((1,), 1e-40, dtype=torch.float32).mul(1.0)) == 0.0
