"""Ornstein-Uhlenbeck perturbation: shrink and add noise, so that variance is preserved."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import require_positive
from .base import Perturbed

__all__ = ["OrnsteinUhlenbeck"]


@dataclass(frozen=True, kw_only=True)
class OrnsteinUhlenbeck:
    r""":math:`y = e^{-s/2} x + \sqrt{1 - e^{-s}}\,\xi`, the variance-preserving diffusion after time ``s``.

    As ``s`` grows, y forgets x and becomes standard normal; the draws spread as :math:`e^{s/2}`. The reverse draw is
    :math:`x' = e^{s/2} y - \sqrt{e^s - 1}\,\xi'`: given y it is Gaussian perturbation with variance :math:`t = e^s - 1`, the
    same energy discrepancy in other coordinates of y. It exists so that schedules of diffusion models can be used as they
    are; for data of unit variance.

    Args:
        time: ``s``, above 0.
    """

    time: float = 1.0

    def __post_init__(self) -> None:
        require_positive("time", self.time)

    def perturb(self, x: Tensor, /, *, generator: torch.Generator | None = None) -> Perturbed:
        """``(B, *event)``, shrunk and noised."""
        noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        return Perturbed(math.exp(-0.5 * self.time) * x + math.sqrt(-math.expm1(-self.time)) * noise)

    def recover(self, perturbed: Perturbed, draws: int, /, *, generator: torch.Generator | None = None) -> Tensor:
        """``(draws, B, *event)`` from the kernel read backwards."""
        y = perturbed.y
        noise = torch.randn((draws, *y.shape), generator=generator, device=y.device, dtype=y.dtype)
        return math.exp(0.5 * self.time) * y + math.sqrt(math.expm1(self.time)) * noise
