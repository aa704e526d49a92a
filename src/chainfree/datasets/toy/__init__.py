"""Toy densities in the plane, each with draws and an exact log-density."""

from .checkerboard import Checkerboard
from .curve import NoisyCurve, moons, swiss_roll, two_spirals
from .pinwheel import Pinwheel
from .registry import (
    TOY_DENSITIES,
    eight_gaussians,
    toy_density,
    twenty_five_gaussians,
    unequal_mixture,
)

__all__ = [
    "TOY_DENSITIES",
    "Checkerboard",
    "NoisyCurve",
    "Pinwheel",
    "eight_gaussians",
    "moons",
    "swiss_roll",
    "toy_density",
    "twenty_five_gaussians",
    "two_spirals",
    "unequal_mixture",
]
