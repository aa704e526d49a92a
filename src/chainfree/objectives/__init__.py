"""Objectives: one or several players that take turns."""

from .single import Single

__all__ = ["Single"]
