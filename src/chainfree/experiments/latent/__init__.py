"""Latent energy priors, compared."""

from .anomaly import LatentAnomaly
from .comparison import LatentComparison

__all__ = ["LatentAnomaly", "LatentComparison"]
