"""Transposed convolutions from latents to images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor, nn

from ..checks import require_positive_int
from ..energies.layers import Activation, activation_layer
from .base import LatentGenerator
from .normalisation import BatchNorm

__all__ = ["DeconvGenerator", "ImageOutput", "image_output"]

ImageOutput = Literal["tanh", "sigmoid", "none"]
_OUTPUTS: dict[str, Callable[[], nn.Module]] = {"tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "none": nn.Identity}


def image_output(output: ImageOutput) -> nn.Module:
    """The last activation of a generator of images.

    Raises:
        ValueError: an unknown one.
    """
    if output not in _OUTPUTS:
        raise ValueError(f"output must be one of {', '.join(_OUTPUTS)}, got {output!r}")
    return _OUTPUTS[output]()


class DeconvGenerator(LatentGenerator):
    """A linear layer to a small grid, then transposed convolutions that double it, as in DCGAN (Radford et al., 2016).

    Args:
        latent_dim: features of z.
        channels: of the image.
        size: height and width in pixels; divisible by ``2 ** len(widths)``.
        widths: channels of the grid and after every doubling but the last, the widest first.
        activation: of the hidden layers.
        batch_norm: normalise every hidden layer, with :class:`BatchNorm`.
        output: the last activation: ``tanh`` for pixels in [-1, 1], ``sigmoid`` for [0, 1], ``none`` for any.
        sigma, sigma_bounds: see :class:`LatentGenerator`.

    Raises:
        ValueError: a size below 1 or one that cannot be halved so often, an unknown activation or output.

    >>> DeconvGenerator(latent_dim=8, size=28, widths=(16, 8)).sample(5).x.shape
    torch.Size([5, 1, 28, 28])
    """

    def __init__(
        self,
        latent_dim: int,
        *,
        channels: int = 1,
        size: int = 28,
        widths: Sequence[int] = (128, 64),
        activation: Activation = "relu",
        batch_norm: bool = True,
        output: ImageOutput = "tanh",
        sigma: float = 0.1,
        sigma_bounds: tuple[float, float] = (0.01, 0.3),
    ) -> None:
        super().__init__(latent_dim, (channels, size, size), sigma=sigma, sigma_bounds=sigma_bounds)
        for name, value in [("size", size), *(("widths", w) for w in widths)]:
            require_positive_int(name, value)
        if not widths or size % 2 ** len(widths):
            raise ValueError(f"size must be divisible by 2 ** len(widths), got {size!r} for widths={tuple(widths)!r}")
        self.output = image_output(output)
        self._grid = (widths[0], size >> len(widths), size >> len(widths))
        self.stem = nn.Linear(latent_dim, widths[0] * self._grid[1] ** 2)
        layers: list[nn.Module] = []
        for width, following in zip(widths, [*widths[1:], channels], strict=True):
            if batch_norm:
                layers.append(BatchNorm(width))
            layers += [activation_layer(activation), nn.ConvTranspose2d(width, following, 4, stride=2, padding=1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        """The mean image, ``(B, latent_dim) -> (B, C, H, W)``."""
        mean: Tensor = self.output(self.layers(self.stem(z).view(-1, *self._grid)))
        return mean
