"""Generators: latent ones with a noise scale, and flows as proposals."""

from .base import Draw, LatentGenerator
from .critics import ConvCritic, MLPCritic
from .deconv import DeconvGenerator
from .flows import Flow, FlowKind
from .linear import LinearGenerator
from .mixture import MixtureGenerator
from .mlp import MLPGenerator
from .normalisation import BatchNorm
from .residual import ResidualGenerator
from .upsampling import UpsamplingGenerator

__all__ = [
    "BatchNorm",
    "ConvCritic",
    "DeconvGenerator",
    "Draw",
    "Flow",
    "FlowKind",
    "LatentGenerator",
    "LinearGenerator",
    "MLPCritic",
    "MLPGenerator",
    "MixtureGenerator",
    "ResidualGenerator",
    "UpsamplingGenerator",
]
