"""Neal's funnel (Neal, "Slice Sampling", Annals of Statistics, 2003)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...checks import require_positive, require_rows
from .base import AnalyticEnergy

__all__ = ["Funnel"]


class Funnel(AnalyticEnergy):
    r""":math:`x_1 \sim N(0, \sigma^2)`, :math:`x_k \mid x_1 \sim N(0, e^{x_1})` for k = 2 .. dim.

    Args:
        dim: number of features, at least 2.
        scale: :math:`\sigma`. Neal's is 3.
    """

    def __init__(self, dim: int = 2, *, scale: float = 3.0) -> None:
        if dim < 2:
            raise ValueError(f"dim must be at least 2, got {dim!r}")
        require_positive("scale", scale)
        super().__init__(dim, 0.5 * dim * math.log(2 * math.pi) + math.log(scale))
        self.scale: Tensor
        self.register_buffer("scale", torch.tensor(float(scale)))

    def forward(self, x: Tensor) -> Tensor:
        """Energy in nats, ``(B, dim) -> (B,)``."""
        require_rows(x, (self.dim,), self.scale)
        neck, rest = x[:, 0], x[:, 1:]
        log_determinant = 0.5 * (self.dim - 1) * neck
        return 0.5 * ((neck / self.scale).square() + rest.square().sum(-1) * torch.exp(-neck)) + log_determinant

    def sample(self, n: int, /, *, generator: torch.Generator | None = None) -> Tensor:
        """``n`` independent draws, ``(n, dim)``."""
        noise = self._normal(n, self.dim, like=self.scale, generator=generator)
        neck = self.scale * noise[:, :1]
        return torch.cat([neck, noise[:, 1:] * torch.exp(0.5 * neck)], dim=1)
