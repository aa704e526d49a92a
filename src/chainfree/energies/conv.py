"""A plain convolutional energy for images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..checks import require_positive_int, require_rows
from .layers import Activation, Head, activation_layer, normed

__all__ = ["ConvNet"]


class ConvNet(nn.Module):
    """Strided convolutions, then one linear layer: halves the image with every entry of ``widths``.

    No normalisation over the batch: an energy is a function of one image.

    Args:
        channels: of the image.
        size: height and width in pixels, at least ``2 ** len(widths)``.
        widths: channels after each convolution.
        activation: as in :class:`chainfree.energies.MLP`.
        spectral_norm: hold each convolution's weight at norm one.
        outputs: K logits in place of an energy, as in :class:`chainfree.energies.MLP`.

    Raises:
        ValueError: an image too small for the number of halvings, a size below 1, an unknown activation.

    >>> ConvNet(channels=1, size=8, widths=(8, 16))(torch.zeros(5, 1, 8, 8)).shape
    torch.Size([5])
    """

    def __init__(
        self,
        *,
        channels: int = 1,
        size: int = 28,
        widths: Sequence[int] = (32, 64, 128),
        activation: Activation = "silu",
        spectral_norm: bool = False,
        outputs: int | None = None,
    ) -> None:
        super().__init__()
        for name, value in [("channels", channels), ("size", size), *(("widths", w) for w in widths)]:
            require_positive_int(name, value)
        if not widths or size < 2 ** len(widths):
            raise ValueError(
                f"{len(widths)} widths halve images of at least {2 ** len(widths)} pixels, got size={size!r}"
            )
        self._event = (channels, size, size)
        layers: list[nn.Module] = []
        for width in widths:
            convolution = nn.Conv2d(channels, width, kernel_size=4, stride=2, padding=1)
            layers += [normed(convolution, spectral_norm), activation_layer(activation)]
            channels, size = width, size // 2
        self.features = nn.Sequential(*layers)
        self.head = Head(channels * size * size, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Energy in nats, ``(B, C, H, W) -> (B,)``, or logits, ``(B, K)``."""
        require_rows(x, self._event, self.head.weight)
        values: Tensor = self.head(torch.flatten(self.features(x), 1))
        return values
