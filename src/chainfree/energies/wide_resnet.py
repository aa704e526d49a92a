"""Wide residual networks, without normalisation.

Zagoruyko and Komodakis, "Wide Residual Networks", BMVC 2016, arXiv 1605.07146. As an energy, without batch norm: Grathwohl,
Wang, Jacobsen, Duvenaud, Norouzi, Swersky, ICLR 2020, arXiv 1912.03263.
"""

from __future__ import annotations

from torch import Tensor, nn

from ..checks import require_positive_int, require_rows
from .layers import Activation, Head, activation_layer
from .resnet import ResidualBlock

__all__ = ["WideResNet"]


class WideResNet(nn.Module):
    """WRN-depth-widen: three stages of pre-activation blocks, the image halved before the second and the third.

    Nothing is normalised over the batch: an energy is a function of one image. Without it learning rates are to be small
    (1e-4 of Adam for JEM, 3e-5 for VERA) and warmed up.

    Args:
        depth: convolutions in all, 6n + 4 with n blocks a stage.
        widen: the stages have 16, 32 and 64 channels times this.
        channels: of the image, whose height and width are at least 4.
        activation: as in :class:`chainfree.energies.MLP`.
        outputs: K logits in place of an energy.

    Raises:
        ValueError: a depth that is not 6n + 4, a size below 1, an unknown activation.

    >>> import torch
    >>> WideResNet(depth=10, widen=1, outputs=10)(torch.zeros(2, 3, 8, 8)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        *,
        depth: int = 28,
        widen: int = 10,
        channels: int = 3,
        activation: Activation = "leaky_relu",
        outputs: int | None = None,
    ) -> None:
        super().__init__()
        for name, value in [("depth", depth), ("widen", widen), ("channels", channels)]:
            require_positive_int(name, value)
        blocks, rest = divmod(depth - 4, 6)
        if rest or blocks < 1:
            raise ValueError(f"depth must be 6n + 4, such as 10, 16, 22 or 28, got {depth!r}")
        self._channels = channels
        self.stem = nn.Conv2d(channels, 16, 3, padding=1)
        layers: list[nn.Module] = []
        inputs = 16
        for stage, width in enumerate((16 * widen, 32 * widen, 64 * widen)):
            for block in range(blocks):
                stride = 2 if stage and not block else 1
                layers.append(ResidualBlock(inputs, width, activation=activation, stride=stride))
                inputs = width
        self.blocks = nn.Sequential(*layers, activation_layer(activation))
        self.head = Head(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Energy in nats, ``(B, C, H, W) -> (B,)``, or logits, ``(B, K)``."""
        require_rows(x, (self._channels, None, None), self.head.weight)
        values: Tensor = self.head(self.blocks(self.stem(x)).mean(dim=(2, 3)))
        return values
