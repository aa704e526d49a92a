"""Latent energy priors, compared."""

from .anomaly import LatentAnomaly
from .comparison import LatentComparison
from .interpolation import LatentInterpolation
from .pixels import PixelsAndLatents

__all__ = ["LatentAnomaly", "LatentComparison", "LatentInterpolation", "PixelsAndLatents"]
