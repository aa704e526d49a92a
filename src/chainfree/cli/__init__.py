"""The command ``chainfree``."""

from .main import main

__all__ = ["main"]
