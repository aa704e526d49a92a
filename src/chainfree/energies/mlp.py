"""Multilayer perceptrons, plain and with random Fourier features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..checks import require_positive, require_positive_int, require_rows
from .layers import Activation, Head, activation_layer, full_precision, normed

__all__ = ["MLP", "FourierMLP"]


def _perceptron(
    inputs: int, widths: Sequence[int], activation: str, *, spectral_norm: bool = False, outputs: int | None = None
) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in widths:
        layers += [normed(nn.Linear(inputs, width), spectral_norm), activation_layer(activation)]
        inputs = width
    return nn.Sequential(*layers, Head(inputs, outputs))


class MLP(nn.Module):
    """A multilayer perceptron with one output, or one for each class.

    Args:
        dim: features of a row.
        width: units of every hidden layer, or those of each in turn.
        depth: hidden layers, where ``width`` is one number.
        activation: smooth ones (``silu``, ``gelu``, ``softplus``) give energies with a usable gradient.
        spectral_norm: hold each hidden layer's largest singular value at one.
        outputs: K logits in place of an energy, for :class:`chainfree.energies.JointEnergy`.

    Raises:
        ValueError: a size below 1 or an unknown activation.

    >>> MLP(dim=3)(torch.zeros(5, 3)).shape
    torch.Size([5])
    """

    def __init__(
        self,
        dim: int,
        *,
        width: int | Sequence[int] = 128,
        depth: int = 3,
        activation: Activation = "silu",
        spectral_norm: bool = False,
        outputs: int | None = None,
    ) -> None:
        super().__init__()
        self.dim = dim
        layers = width if isinstance(width, Sequence) else [width]
        for name, value in [("dim", dim), ("depth", depth), *(("width", w) for w in layers or [0])]:
            require_positive_int(name, value)
        widths = list(width) if isinstance(width, Sequence) else [width] * depth
        self.layers = _perceptron(dim, widths, activation, spectral_norm=spectral_norm, outputs=outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Energy in nats, ``(B, dim) -> (B,)``, or logits, ``(B, K)``."""
        require_rows(x, (self.dim,), next(self.layers.parameters()))
        values: Tensor = self.layers(x)
        return values


class FourierMLP(nn.Module):
    r"""A perceptron over random Fourier features :math:`(\sin Fx, \cos Fx)`, :math:`F_{ij} \sim N(0, s^2)` fixed.

    Perceptrons learn high frequencies last; densities with narrow modes have nothing but. For few features (up to ten or
    so) this cuts training several times. The energy is bounded, so tilt a base with it to have tails
    (:class:`chainfree.energies.Tilted`). Tancik et al., "Fourier Features Let Networks Learn High Frequency Functions in
    Low Dimensional Domains", NeurIPS 2020, arXiv 2006.10739.

    Args:
        dim: features of a row.
        features: frequencies; the perceptron sees twice as many inputs.
        scale: s, in radians per unit of the data: about the inverse of the finest detail's size.
        width, depth, activation: as in :class:`MLP`.
        seed: of the frequencies, so that a network can be built again.
    """

    def __init__(
        self,
        dim: int,
        *,
        features: int = 32,
        scale: float = 4.0,
        width: int = 128,
        depth: int = 3,
        activation: Activation = "gelu",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.dim = dim
        for name, value in [("dim", dim), ("features", features), ("width", width), ("depth", depth)]:
            require_positive_int(name, value)
        require_positive("scale", scale)
        generator = torch.Generator().manual_seed(seed)
        self.frequencies: Tensor
        self.register_buffer("frequencies", scale * torch.randn(dim, features, generator=generator))
        self.layers = _perceptron(2 * features, [width] * depth, activation)

    def forward(self, x: Tensor) -> Tensor:
        """Energy in nats, ``(B, dim) -> (B,)``."""
        require_rows(x, (self.dim,), self.frequencies)
        with full_precision(x):
            phase = x @ self.frequencies
        values: Tensor = self.layers(torch.cat([phase.sin(), phase.cos()], dim=-1))
        return values
