"""Perturbations: how a loss makes information disappear, and draws it back."""

from .base import Perturbation, Perturbed
from .diffusion import OrnsteinUhlenbeck
from .gaussian import Gaussian, LogUniform
from .mean_pool import MeanPool

__all__ = ["Gaussian", "LogUniform", "MeanPool", "OrnsteinUhlenbeck", "Perturbation", "Perturbed"]
