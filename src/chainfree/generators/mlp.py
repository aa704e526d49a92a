"""A multilayer perceptron from latents to rows."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..checks import require_positive_int
from ..energies.layers import Activation, activation_layer
from .base import LatentGenerator
from .normalisation import BatchNorm

__all__ = ["MLPGenerator", "start_near_zero_"]


class MLPGenerator(LatentGenerator):
    """A multilayer perceptron without a last activation: rows of a table, points in the plane.

    Args:
        latent_dim: features of z.
        dim: features of a row.
        width: units of a hidden layer.
        depth: hidden layers.
        activation: of the hidden layers.
        batch_norm: normalise every hidden layer over the batch, with :class:`BatchNorm`.
        sigma, sigma_bounds: see :class:`LatentGenerator`.

    Raises:
        ValueError: a size below 1 or an unknown activation.

    >>> MLPGenerator(latent_dim=2, dim=3).sample(5).x.shape
    torch.Size([5, 3])
    """

    def __init__(
        self,
        latent_dim: int,
        dim: int,
        *,
        width: int = 128,
        depth: int = 3,
        activation: Activation = "silu",
        batch_norm: bool = False,
        sigma: float = 0.1,
        sigma_bounds: tuple[float, float] = (0.01, 0.3),
    ) -> None:
        super().__init__(latent_dim, (dim,), sigma=sigma, sigma_bounds=sigma_bounds)
        for name, value in [("width", width), ("depth", depth)]:
            require_positive_int(name, value)
        layers: list[nn.Module] = []
        inputs = latent_dim
        for _ in range(depth):
            layers.append(nn.Linear(inputs, width))
            if batch_norm:
                layers.append(BatchNorm(width))
            layers.append(activation_layer(activation))
            inputs = width
        self.layers = nn.Sequential(*layers, nn.Linear(inputs, dim))

    def forward(self, z: Tensor) -> Tensor:
        """The mean, ``(B, latent_dim) -> (B, dim)``."""
        mean: Tensor = self.layers(z)
        return mean


@torch.no_grad()
def start_near_zero_(layers: nn.Sequential, scale: float) -> None:
    """Scale the last layer's first weights and clear its bias, for a perceptron that is added to something."""
    last = layers[-1]
    assert isinstance(last, nn.Linear)
    last.weight.mul_(scale)
    last.bias.zero_()
