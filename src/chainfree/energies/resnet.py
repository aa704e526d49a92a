"""A small residual energy for images."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import require_positive_int, require_rows
from .layers import Activation, Head, activation_layer, normed

__all__ = ["ResNet"]


class ResidualBlock(nn.Module):
    """Two convolutions, each after its activation, added to the input.

    Args:
        inputs, width: channels before and after.
        activation, spectral_norm: as in :class:`chainfree.energies.MLP`.
        stride: of the first convolution and of the shortcut, a convolution of one pixel where the shape changes.
    """

    def __init__(
        self, inputs: int, width: int, *, activation: Activation, spectral_norm: bool = False, stride: int = 1
    ) -> None:
        super().__init__()
        self.activation = activation_layer(activation)
        self.first = normed(nn.Conv2d(inputs, width, 3, stride=stride, padding=1), spectral_norm)
        self.second = normed(nn.Conv2d(width, width, 3, padding=1), spectral_norm)
        same = inputs == width and stride == 1
        self.skip = nn.Identity() if same else nn.Conv2d(inputs, width, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, H, W)`` to ``(B, width, H / stride, W / stride)``."""
        h = self.second(self.activation(self.first(self.activation(x))))
        out: Tensor = self.skip(x) + h
        return out


class ResNet(nn.Module):
    """Pre-activation residual blocks without normalisation, average-pooled between, summed over space at the end.

    Args:
        channels: of the image.
        widths: channels of each stage; the image is halved between stages.
        blocks: residual blocks a stage.
        activation, spectral_norm, outputs: as in :class:`chainfree.energies.MLP`.

    Raises:
        ValueError: a size below 1, no stage, an unknown activation.

    >>> import torch
    >>> ResNet(widths=(8, 16), blocks=1)(torch.zeros(5, 1, 8, 8)).shape
    torch.Size([5])
    """

    def __init__(
        self,
        *,
        channels: int = 1,
        widths: Sequence[int] = (32, 64, 128),
        blocks: int = 2,
        activation: Activation = "silu",
        spectral_norm: bool = False,
        outputs: int | None = None,
    ) -> None:
        super().__init__()
        for name, value in [("channels", channels), ("blocks", blocks), *(("widths", w) for w in widths)]:
            require_positive_int(name, value)
        if not widths:
            raise ValueError("widths must name at least one stage, got ()")
        self._channels = channels
        self.stem = normed(nn.Conv2d(channels, widths[0], 3, padding=1), spectral_norm)
        self.stages = nn.ModuleList()
        inputs = widths[0]
        for width in widths:
            sizes = [inputs] + [width] * (blocks - 1)
            stage = (ResidualBlock(size, width, activation=activation, spectral_norm=spectral_norm) for size in sizes)
            self.stages.append(nn.Sequential(*stage))
            inputs = width
        self.activation = activation_layer(activation)
        self.head = Head(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Energy in nats, ``(B, C, H, W) -> (B,)``, or logits, ``(B, K)``."""
        require_rows(x, (self._channels, None, None), self.head.weight)
        h = self.stem(x)
        for index, stage in enumerate(self.stages):
            h = stage(F.avg_pool2d(h, 2) if index else h)
        values: Tensor = self.head(self.activation(h).sum(dim=(2, 3)))
        return values
