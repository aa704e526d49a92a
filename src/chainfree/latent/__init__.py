"""Latent models: a decoder, an energy of its latents, and ways to the latents of a row."""

from .decoders import ImageDecoder, image_decoder
from .encoder import Encoded, GaussianEncoder
from .model import (
    Interpolation,
    LatentModel,
    LatentScores,
    LatentsOfPrior,
    LatentsOfRows,
    Likelihood,
    LogLikelihoods,
)
from .posterior import LangevinPosterior, RevisedPosterior, VariationalPosterior
from .prior import GeneratorPrior, LangevinPrior, NormalPrior, ResampledPrior, latent_prior

__all__ = [
    "Encoded",
    "GaussianEncoder",
    "GeneratorPrior",
    "ImageDecoder",
    "Interpolation",
    "LangevinPosterior",
    "LangevinPrior",
    "LatentModel",
    "LatentScores",
    "LatentsOfPrior",
    "LatentsOfRows",
    "Likelihood",
    "LogLikelihoods",
    "NormalPrior",
    "ResampledPrior",
    "RevisedPosterior",
    "VariationalPosterior",
    "image_decoder",
    "latent_prior",
]
