"""Latent energy priors, compared."""

from .comparison import LatentComparison

__all__ = ["LatentComparison"]
