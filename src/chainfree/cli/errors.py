"""What a person did that the program cannot work with."""

from __future__ import annotations

__all__ = ["UsageError"]


class UsageError(ValueError):
    """Wrong flags, settings or folders; the message is one line with the remedy."""
