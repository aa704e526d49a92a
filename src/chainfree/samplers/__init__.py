"""Samplers: Langevin steps, Metropolis-adjusted ones, and chains in a generator's latent space."""

from . import mala
from .langevin import langevin
from .latent import RefineInfo, refine

__all__ = ["RefineInfo", "langevin", "mala", "refine"]
