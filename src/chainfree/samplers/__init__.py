"""Samplers: importance resampling from a generator, Langevin and Metropolis-adjusted steps, chains in its latents."""

from . import mala
from .langevin import langevin
from .latent import RefineInfo, refine
from .resample import Resampled, resample

__all__ = ["RefineInfo", "Resampled", "langevin", "mala", "refine", "resample"]
