"""A generator that moves the draws of a density."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ..energies.layers import Activation
from ..typing import Density
from .base import LatentGenerator
from .mlp import MLPGenerator

__all__ = ["TransportedGenerator"]

_START = 0.01  # of the last layer's first weights


class TransportedGenerator(LatentGenerator):
    r""":math:`g(z) = z + h(z)` with z from a density and a perceptron h that starts near zero.

    For an energy with parts that lie apart, tilted from a base that knows them: a map of one normal would have to tear, and
    what it lays between the parts is not data. Here the parts are the base's, and h moves them to the energy. The entropy of
    the draws is the base's, which does not change, and the mean of log abs det of the map, which
    :class:`chainfree.entropy.LocalVolume` has the gradient of where σ is small beside the map's slopes. Estimators that
    compare densities of latents take z for a standard normal and are not for this one.

    Args:
        base: whose draws are moved; of a module a copy, which is not trained.
        dim: features of a row.
        width, depth, activation: of h, as in :class:`MLPGenerator`.
        sigma, sigma_bounds: see :class:`LatentGenerator`.
    """

    def __init__(
        self,
        base: Density,
        dim: int,
        *,
        width: int = 128,
        depth: int = 3,
        activation: Activation = "silu",
        sigma: float = 0.02,
        sigma_bounds: tuple[float, float] = (0.01, 0.3),
    ) -> None:
        super().__init__(dim, (dim,), sigma=sigma, sigma_bounds=sigma_bounds)
        self.base = copy.deepcopy(base).requires_grad_(False) if isinstance(base, nn.Module) else base
        self.perceptron = MLPGenerator(dim, dim, width=width, depth=depth, activation=activation).layers
        last = self.perceptron[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.weight.mul_(_START)
            last.bias.zero_()

    def latents(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draws of the base, ``(n, dim)``."""
        with torch.no_grad():
            return self.base.sample(n, generator=generator).to(self.log_sigma)

    def forward(self, z: Tensor) -> Tensor:
        """The mean, ``(B, dim) -> (B, dim)``."""
        mean: Tensor = z + self.perceptron(z)
        return mean
