"""Latent energy priors, compared."""

from .anomaly import LatentAnomaly
from .comparison import LatentComparison
from .interpolation import LatentInterpolation

__all__ = ["LatentAnomaly", "LatentComparison", "LatentInterpolation"]
