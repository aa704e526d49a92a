"""How many threads compute."""

from __future__ import annotations

import torch
from threadpoolctl import threadpool_limits

__all__ = ["use_threads"]


def use_threads(threads: int) -> None:
    """Torch, and the linear algebra behind NumPy and scikit-learn, use so many from now on.

    Of libraries that are loaded later only torch keeps to it.
    """
    torch.set_num_threads(threads)
    threadpool_limits(threads)  # no context: it stays
