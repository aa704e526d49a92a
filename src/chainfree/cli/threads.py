"""How many threads of the processor to use."""

from __future__ import annotations

import os

from ..threads import use_threads
from .errors import UsageError

__all__ = ["set_threads"]

_MOST = 64


def set_threads(threads: int) -> None:
    """Let torch and the linear algebra behind NumPy use so many.

    Raises:
        UsageError: below 1, or so many that the system may refuse them, upon which the process would be aborted.
    """
    most = max(_MOST, 4 * (os.cpu_count() or 1))
    if not 1 <= threads <= most:
        raise UsageError(f"threads must be a whole number from 1 to {most}, got {threads!r}")
    use_threads(threads)
