"""Residual blocks from latents to images."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from ..checks import require_positive_int
from ..energies.layers import Activation, activation_layer
from ..energies.resnet import ResidualBlock
from .base import LatentGenerator
from .deconv import ImageOutput, image_output

__all__ = ["UpsamplingGenerator"]


class UpsamplingGenerator(LatentGenerator):
    """A linear layer to a small grid, then residual blocks with the image doubled between them: for GPUs.

    No normalisation: latents are decoded one as another, whatever rows stand beside them.

    Args:
        latent_dim: features of z.
        channels: of the image.
        size: height and width in pixels; divisible by ``2 ** (len(widths) - 1)``.
        widths: channels of each stage, the smallest grid first.
        blocks: residual blocks a stage.
        activation: of the hidden layers.
        output: as :class:`DeconvGenerator`.
        sigma, sigma_bounds: see :class:`LatentGenerator`.

    Raises:
        ValueError: a size below 1 or one that cannot be halved so often, an unknown activation or output.

    >>> UpsamplingGenerator(latent_dim=8, size=28, widths=(16, 16, 8), blocks=1).sample(5).x.shape
    torch.Size([5, 1, 28, 28])
    """

    def __init__(
        self,
        latent_dim: int,
        *,
        channels: int = 1,
        size: int = 28,
        widths: Sequence[int] = (256, 128, 64),
        blocks: int = 2,
        activation: Activation = "silu",
        output: ImageOutput = "tanh",
        sigma: float = 0.1,
        sigma_bounds: tuple[float, float] = (0.01, 0.3),
    ) -> None:
        super().__init__(latent_dim, (channels, size, size), sigma=sigma, sigma_bounds=sigma_bounds)
        for name, value in [("size", size), ("blocks", blocks), *(("widths", w) for w in widths)]:
            require_positive_int(name, value)
        if not widths or size % 2 ** (len(widths) - 1):
            raise ValueError(
                f"size must be divisible by 2 ** (len(widths) - 1), got {size!r} for widths={tuple(widths)!r}"
            )
        self.output = image_output(output)
        side = size >> (len(widths) - 1)
        self._grid = (widths[0], side, side)
        self.stem = nn.Linear(latent_dim, widths[0] * side**2)
        self.stages = nn.ModuleList()
        inputs = widths[0]
        for width in widths:
            sizes = [inputs] + [width] * (blocks - 1)
            self.stages.append(nn.Sequential(*(ResidualBlock(n, width, activation=activation) for n in sizes)))
            inputs = width
        self.activation = activation_layer(activation)
        self.last = nn.Conv2d(inputs, channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """The mean image, ``(B, latent_dim) -> (B, C, H, W)``."""
        h = self.stem(z).view(-1, *self._grid)
        for place, stage in enumerate(self.stages):
            h = stage(functional.interpolate(h, scale_factor=2.0) if place else h)
        mean: Tensor = self.output(self.last(self.activation(h)))
        return mean
