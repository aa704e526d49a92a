"""Double well: two modes across a barrier along the first axis."""

from __future__ import annotations

import math

import torch
from scipy.special import ive
from torch import Tensor

from ...checks import require_positive, require_rows
from .base import AnalyticEnergy

__all__ = ["DoubleWell"]


class DoubleWell(AnalyticEnergy):
    r""":math:`E(x) = a (x_1^2 - 1)^2 + \tfrac12 \sum_{k>1} x_k^2`.

    The first axis integrates to :math:`\tfrac\pi2 e^{-a/2} [I_{-1/4}(a/2) + I_{1/4}(a/2)]`.

    Args:
        dim: number of features.
        barrier: :math:`a`, height of the barrier between the wells in nats.
    """

    def __init__(self, dim: int = 2, *, barrier: float = 4.0) -> None:
        if dim < 1:
            raise ValueError(f"dim must be at least 1, got {dim!r}")
        require_positive("barrier", barrier)
        first = 0.5 * math.pi * float(ive(-0.25, barrier / 2) + ive(0.25, barrier / 2))
        super().__init__(dim, math.log(first) + 0.5 * (dim - 1) * math.log(2 * math.pi))
        self.barrier: Tensor
        self.register_buffer("barrier", torch.tensor(float(barrier)))

    def forward(self, x: Tensor) -> Tensor:
        """Energy in nats, ``(B, dim) -> (B,)``."""
        require_rows(x, (self.dim,), self.barrier)
        return self.barrier * (x[:, 0].square() - 1).square() + 0.5 * x[:, 1:].square().sum(dim=-1)

    def sample(self, n: int, /, *, generator: torch.Generator | None = None) -> Tensor:
        r"""``n`` independent draws, ``(n, dim)``.

        Rejection: :math:`(x^2-1)^2 = (|x|-1)^2 (|x|+1)^2 \ge (|x|-1)^2`, so half-normals around the wells dominate.
        """
        sign = torch.randint(0, 2, (n,), generator=generator, device=self.barrier.device) * 2 - 1
        first = sign * self._half_axis(n, generator)
        rest = self._normal(n, self.dim - 1, like=self.barrier, generator=generator)
        return torch.cat([first.unsqueeze(-1), rest], dim=1)

    def _half_axis(self, n: int, generator: torch.Generator | None) -> Tensor:
        kept: list[Tensor] = []
        found = 0
        while found < n:
            want = 4 * (n - found) + 64
            u = 1 + self._normal(want, like=self.barrier, generator=generator) / (2 * self.barrier).sqrt()
            log_accept = -self.barrier * (u - 1).square() * ((u + 1).square() - 1)
            coin = self._uniform(want, like=self.barrier, generator=generator)
            accepted = u[(u > 0) & (coin.log() < log_accept)]
            kept.append(accepted)
            found += len(accepted)
        return torch.cat(kept)[:n] if kept else self.barrier.new_empty(0)
