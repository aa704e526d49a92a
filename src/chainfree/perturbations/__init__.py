"""Perturbations: how a loss makes information disappear, and draws it back; kernels for pairs."""

from .absorbing import Absorbing
from .base import Perturbation, Perturbed
from .bernoulli import Bernoulli
from .diffusion import OrnsteinUhlenbeck
from .gaussian import Gaussian, LogUniform
from .heat_kernel import OrderedHeatKernel, UniformHeatKernel
from .mean_pool import MeanPool
from .mixed import Mixed
from .one_site import OneSite
from .pairs import JumpPairs, LocalPairs, PairKernel, Pairs

__all__ = [
    "Absorbing",
    "Bernoulli",
    "Gaussian",
    "JumpPairs",
    "LocalPairs",
    "LogUniform",
    "MeanPool",
    "Mixed",
    "OneSite",
    "OrderedHeatKernel",
    "OrnsteinUhlenbeck",
    "PairKernel",
    "Pairs",
    "Perturbation",
    "Perturbed",
    "UniformHeatKernel",
]
