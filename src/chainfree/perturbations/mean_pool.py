"""Mean-pool perturbation for images: details are blurred, local means stay."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checks import require_positive, require_positive_int
from .base import Perturbed

__all__ = ["MeanPool"]


@dataclass(frozen=True, kw_only=True)
class MeanPool:
    r"""Gaussian noise that leaves the mean of every ``window`` x ``window`` patch untouched.

    :math:`y = x + \sqrt t\, P \xi`, with :math:`P` the projection that takes each patch's mean away. As ``t`` grows all
    that y keeps is the mean-pooled image; a finite ``t`` keeps the reverse draw proper on unbounded pixels. The kernel
    is symmetric on the subspace, so its reverse is itself. It tells nothing about the density of the pooled image:
    alternate with :class:`Gaussian`, or use it where the pooled image is modelled elsewhere.

    Args:
        window: side of a patch in pixels; must divide both sides of the image.
        t: variance of the noise before projection, in squared units of the pixels.
    """

    window: int = 2
    t: float = 1.0

    def __post_init__(self) -> None:
        require_positive_int("window", self.window)
        require_positive("t", self.t)
        if self.window == 1:
            raise ValueError("window must be at least 2: patches of one pixel lose nothing")

    def perturb(self, x: Tensor, /, *, generator: torch.Generator | None = None) -> Perturbed:
        """``(B, C, H, W)`` with noise inside every patch.

        Raises:
            ValueError: not four axes, or sides that ``window`` does not divide.
        """
        if x.dim() != 4 or x.shape[-1] % self.window or x.shape[-2] % self.window:
            raise ValueError(
                f"mean-pool needs images (B, C, H, W) with sides divisible by window={self.window}, got {tuple(x.shape)}"
            )
        return Perturbed(x + self._noise(x.shape, x, generator))

    def recover(self, perturbed: Perturbed, draws: int, /, *, generator: torch.Generator | None = None) -> Tensor:
        """``(draws, B, C, H, W)``, all with the patch means of ``y``."""
        y = perturbed.y
        noise = self._noise((draws * y.shape[0], *y.shape[1:]), y, generator)
        return y + noise.view(draws, *y.shape)

    def _noise(self, shape: tuple[int, ...] | torch.Size, like: Tensor, generator: torch.Generator | None) -> Tensor:
        noise = torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)
        means = F.avg_pool2d(noise, self.window)
        spread = means.repeat_interleave(self.window, -1).repeat_interleave(self.window, -2)
        return math.sqrt(self.t) * (noise - spread)
