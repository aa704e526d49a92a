"""The one exception for input data that cannot be used."""

from __future__ import annotations

__all__ = ["DataError"]


class DataError(ValueError):
    """A file, a table or a folder of data is missing or unusable; the message is one line and ends with the remedy."""
