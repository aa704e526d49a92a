"""The toy densities by name."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from ...energies.analytic import Banana, Funnel, GaussianMixture, Ring
from ...typing import Density
from .checkerboard import Checkerboard
from .curve import moons, swiss_roll, two_spirals
from .pinwheel import Pinwheel

__all__ = ["TOY_DENSITIES", "eight_gaussians", "toy_density", "twenty_five_gaussians", "unequal_mixture"]


def twenty_five_gaussians() -> GaussianMixture:
    """A 5 x 5 grid with spacing sqrt(2), standard deviation 0.2 / sqrt(2): the energy-discrepancy paper's target."""
    axis = torch.arange(-2.0, 3.0) * 2 / 1.414
    return GaussianMixture(torch.cartesian_prod(axis, axis), (0.2 / 1.414) ** 2)


def eight_gaussians() -> GaussianMixture:
    """Eight modes on a circle of radius 2.8, standard deviation 0.35."""
    angle = torch.arange(8) * math.pi / 4
    return GaussianMixture(2.8 * torch.stack([angle.cos(), angle.sin()], dim=-1), 0.35**2)


def unequal_mixture() -> GaussianMixture:
    """Four far modes of weight 0.1, 0.2, 0.3, 0.4 and standard deviation 0.5: where nearsighted losses go wrong."""
    means = torch.tensor([[-3.0, -3.0], [3.0, -3.0], [-3.0, 3.0], [3.0, 3.0]])
    return GaussianMixture(means, 0.5**2, weights=[0.1, 0.2, 0.3, 0.4])


TOY_DENSITIES: dict[str, Callable[[], Density]] = {
    "25gaussians": twenty_five_gaussians,
    "8gaussians": eight_gaussians,
    "unequal_mixture": unequal_mixture,
    "moons": moons,
    "rings": lambda: Ring((0.75, 1.5, 2.25, 3.0), noise=0.1),
    "pinwheel": Pinwheel,
    "two_spirals": two_spirals,
    "checkerboard": Checkerboard,
    "swiss_roll": swiss_roll,
    "banana": Banana,
    "funnel": Funnel,
}


def toy_density(name: str) -> Density:
    """The toy density of that name; all are planar.

    Raises:
        ValueError: no such name; the message lists them.

    >>> toy_density("moons").sample(3).shape
    torch.Size([3, 2])
    """
    if name not in TOY_DENSITIES:
        raise ValueError(f"no toy density is called {name!r}; there are {', '.join(TOY_DENSITIES)}")
    return TOY_DENSITIES[name]()
