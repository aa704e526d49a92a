"""Perturbations: how a loss makes information disappear, and draws it back; kernels for pairs."""

from .base import Perturbation, Perturbed
from .diffusion import OrnsteinUhlenbeck
from .gaussian import Gaussian, LogUniform
from .mean_pool import MeanPool
from .pairs import JumpPairs, LocalPairs, PairKernel, Pairs

__all__ = [
    "Gaussian",
    "JumpPairs",
    "LocalPairs",
    "LogUniform",
    "MeanPool",
    "OrnsteinUhlenbeck",
    "PairKernel",
    "Pairs",
    "Perturbation",
    "Perturbed",
]
