"""Latent models: a decoder, an energy of its latents, and ways to the latents of a row."""

from .encoder import Encoded, GaussianEncoder
from .model import LatentModel, Likelihood, LogLikelihoods, latent_prior
from .posterior import LangevinPosterior, RevisedPosterior, VariationalPosterior

__all__ = [
    "Encoded",
    "GaussianEncoder",
    "LangevinPosterior",
    "LatentModel",
    "Likelihood",
    "LogLikelihoods",
    "RevisedPosterior",
    "VariationalPosterior",
    "latent_prior",
]
