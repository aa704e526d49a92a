"""The banana: a Gaussian bent along a parabola (Haario, Saksman, Tamminen, 1999)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...checks import require_positive, require_rows
from .base import AnalyticEnergy

__all__ = ["Banana"]


class Banana(AnalyticEnergy):
    r""":math:`x_1 \sim N(0, \sigma^2)`, :math:`x_2 \mid x_1 \sim N(b (x_1^2 - \sigma^2), s^2)`, further axes N(0, 1).

    Args:
        dim: number of features, at least 2.
        scale: :math:`\sigma`, standard deviation along the banana.
        curvature: :math:`b`.
        width: :math:`s`, standard deviation across it.
    """

    def __init__(self, dim: int = 2, *, scale: float = 1.5, curvature: float = 0.5, width: float = 0.5) -> None:
        if dim < 2:
            raise ValueError(f"dim must be at least 2, got {dim!r}")
        require_positive("scale", scale)
        require_positive("width", width)
        super().__init__(dim, 0.5 * dim * math.log(2 * math.pi) + math.log(scale) + math.log(width))
        self.curvature: Tensor
        self.scales: Tensor
        self.register_buffer("curvature", torch.tensor(float(curvature)))
        self.register_buffer("scales", torch.tensor([float(scale), float(width)] + [1.0] * (dim - 2)))

    def forward(self, x: Tensor) -> Tensor:
        """Energy in nats, ``(B, dim) -> (B,)``."""
        require_rows(x, (self.dim,), self.scales)
        return 0.5 * (self._bend(x, -1.0) / self.scales).square().sum(dim=-1)

    def sample(self, n: int, /, *, generator: torch.Generator | None = None) -> Tensor:
        """``n`` independent draws, ``(n, dim)``."""
        straight = self.scales * self._normal(n, self.dim, like=self.scales, generator=generator)
        return self._bend(straight, 1.0)

    def _bend(self, x: Tensor, sign: float) -> Tensor:
        """Shift the second axis along the parabola; it preserves volume, so it leaves log Z alone."""
        parabola = self.curvature * (x[:, :1].square() - self.scales[0].square())
        return torch.cat([x[:, :1], x[:, 1:2] + sign * parabola, x[:, 2:]], dim=1)
