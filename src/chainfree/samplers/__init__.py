"""Samplers: chains that map a state to a state and what happened, importance resampling, chains in a generator's latents.

Each kernel's module has ``init``, ``step`` and ``kernel``, for thousands of chains in a batch; :func:`warm_up` finds its
step size and :func:`run` runs it. ``ula`` and ``mala`` take Langevin steps, ``hmc`` trajectories, ``underdamped`` steps
that remember their direction, and ``tempering`` passes between far modes. Codes are moved by ``gibbs``, bits by
``gibbs_with_gradients``, rows with codes and numbers by ``block_gibbs``. :func:`anneal` leads a crowd from wide to narrow.
:func:`sample_tilted` draws from a tilted base by weights, without a chain.
There is no NUTS: the PyTorch packages that have one run a chain at a time or draw from the global generator.
"""

from . import annealed, block_gibbs, gibbs, gibbs_with_gradients, hmc, mala, tempering, ula, underdamped
from .adaptation import WarmUp, warm_up
from .annealed import AnnealInfo, anneal
from .chain import Chain
from .gradients import MinusEnergy
from .kernels import Kernel
from .langevin import langevin
from .latent import RefineInfo, refine
from .replay import ReplayBuffer
from .resample import Resampled, resample, resample_class
from .run import Record, effective_sample_size, r_hat, run
from .tilted import ConditionalDensity, Proposals, WeightedDraws, sample_tilted, sample_tilted_given, weighted_given

__all__ = [
    "AnnealInfo",
    "Chain",
    "ConditionalDensity",
    "Kernel",
    "MinusEnergy",
    "Proposals",
    "Record",
    "RefineInfo",
    "ReplayBuffer",
    "Resampled",
    "WarmUp",
    "WeightedDraws",
    "anneal",
    "annealed",
    "block_gibbs",
    "effective_sample_size",
    "gibbs",
    "gibbs_with_gradients",
    "hmc",
    "langevin",
    "mala",
    "r_hat",
    "refine",
    "resample",
    "resample_class",
    "run",
    "sample_tilted",
    "sample_tilted_given",
    "tempering",
    "ula",
    "underdamped",
    "warm_up",
    "weighted_given",
]
