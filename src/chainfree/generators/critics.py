"""Critics T(x, z) of pairs: what estimates how much a generator's samples tell about their latents."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..checks import ContractError, require_positive_int
from ..energies.layers import Activation, activation_layer
from ..energies.mlp import MLP

__all__ = ["ConvCritic", "MLPCritic"]


class MLPCritic(nn.Module):
    """A perceptron over x and z side by side.

    Args:
        dim: features of a row x.
        latent_dim: features of z.
        width: units of a hidden layer.
        depth: hidden layers.
        activation: of the hidden layers.

    Raises:
        ValueError: a size below 1 or an unknown activation.

    >>> MLPCritic(dim=3, latent_dim=2)(torch.zeros(5, 3), torch.zeros(5, 2)).shape
    torch.Size([5])
    """

    def __init__(
        self, dim: int, latent_dim: int, *, width: int = 128, depth: int = 3, activation: Activation = "silu"
    ) -> None:
        super().__init__()
        for name, value in [("dim", dim), ("latent_dim", latent_dim)]:
            require_positive_int(name, value)
        self._events = (dim,), (latent_dim,)
        self.pairs = MLP(dim + latent_dim, width=width, depth=depth, activation=activation)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """One number a pair, ``(B, dim), (B, latent_dim) -> (B,)``."""
        _require_pairs(x, z, *self._events)
        values: Tensor = self.pairs(torch.cat([x, z], dim=1))
        return values


class ConvCritic(nn.Module):
    """Strided convolutions over x, as in :class:`chainfree.energies.ConvNet`, then a perceptron over them and z.

    Args:
        latent_dim: features of z.
        channels: of the image.
        size: height and width in pixels, at least ``2 ** len(widths)``.
        widths: channels after each convolution, which halves the image.
        features: of the image that stand beside z.
        width, depth: units and hidden layers of the perceptron.
        activation: of all hidden layers.

    Raises:
        ValueError: an image too small for the number of halvings, a size below 1, an unknown activation.

    >>> ConvCritic(2, size=8, widths=(4, 8))(torch.zeros(5, 1, 8, 8), torch.zeros(5, 2)).shape
    torch.Size([5])
    """

    def __init__(
        self,
        latent_dim: int,
        *,
        channels: int = 1,
        size: int = 28,
        widths: Sequence[int] = (32, 64, 128),
        features: int = 128,
        width: int = 256,
        depth: int = 2,
        activation: Activation = "silu",
    ) -> None:
        super().__init__()
        sizes = [("latent_dim", latent_dim), ("channels", channels), ("size", size), ("features", features)]
        for name, value in [*sizes, *(("widths", w) for w in widths)]:
            require_positive_int(name, value)
        if not widths or size < 2 ** len(widths):
            raise ValueError(
                f"{len(widths)} widths halve images of at least {2 ** len(widths)} pixels, got size={size!r}"
            )
        self._events = (channels, size, size), (latent_dim,)
        layers: list[nn.Module] = []
        for following in widths:
            layers += [nn.Conv2d(channels, following, 4, stride=2, padding=1), activation_layer(activation)]
            channels, size = following, size // 2
        layers += [nn.Flatten(), nn.Linear(channels * size * size, features), activation_layer(activation)]
        self.image = nn.Sequential(*layers)
        self.pairs = MLP(features + latent_dim, width=width, depth=depth, activation=activation)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """One number a pair, ``(B, C, H, W), (B, latent_dim) -> (B,)``."""
        _require_pairs(x, z, *self._events)
        seen = self.image(x)
        values: Tensor = self.pairs(torch.cat([seen.to(z.dtype), z], dim=1))  # autocast convolves in bf16
        return values


def _require_pairs(x: Tensor, z: Tensor, event: tuple[int, ...], latent: tuple[int, ...]) -> None:
    if x.shape[1:] != event or z.shape[1:] != latent or len(x) != len(z):
        raise ContractError(
            f"the critic takes x of shape {('B', *event)} and z of shape {('B', *latent)}, got {tuple(x.shape)} and "
            f"{tuple(z.shape)}; build it for this generator"
        )
