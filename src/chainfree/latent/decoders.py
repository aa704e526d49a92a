"""Decoders of images, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from ..generators import DeconvGenerator, LatentGenerator, UpsamplingGenerator
from ..generators.deconv import ImageOutput

__all__ = ["ImageDecoder", "image_decoder"]

ImageDecoder = Literal["small", "paper", "residual"]


def image_decoder(
    kind: ImageDecoder,
    latent_dim: int,
    *,
    channels: int = 1,
    size: int = 28,
    output: ImageOutput = "tanh",
    sigma: float = 0.3,
    learn_sigma: bool = False,
) -> LatentGenerator:
    """A decoder for :class:`chainfree.objectives.LatentPrior`, without batch norms.

    Args:
        kind: ``"paper"``, transposed convolutions of the energy discrepancy paper's width; ``"small"``, of a quarter of its
            channels, for processors; ``"residual"``, residual blocks, for GPUs.
        latent_dim: features of z.
        channels, size: of the images, such as 28 or 32. The size is divisible by 4, and by 8 from 32 pixels on.
        output: ``"tanh"`` for pixels in [-1, 1], ``"sigmoid"`` for [0, 1], ``"none"`` for the logits of bits.
        sigma: of the Gaussian likelihood, in units of the pixels; within 0.01 and 1 where it is trained.
        learn_sigma: whether σ is trained, from there, between 0.01 and 1.

    Raises:
        ValueError: an unknown kind, a size that cannot be halved so often, or a σ beyond where it may be trained.
    """
    if kind not in _WIDTHS:
        raise ValueError(f"kind must be one of {', '.join(_WIDTHS)}, got {kind!r}")
    make: Callable[..., LatentGenerator] = UpsamplingGenerator
    shape = {"channels": channels, "size": size, "widths": _WIDTHS[kind][size >= 32], "output": output}
    if kind != "residual":
        make, shape = DeconvGenerator, shape | {"batch_norm": False, "activation": "leaky_relu"}
    return make(latent_dim, **shape, sigma=sigma, sigma_bounds=(0.01, 1.0) if learn_sigma else (sigma, sigma))


# below 32 pixels, and from there on
_WIDTHS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "small": ((64, 32), (128, 64, 32)),
    "paper": ((256, 128), (512, 256, 128)),
    "residual": ((256, 128, 64), (256, 256, 128, 64)),
}
