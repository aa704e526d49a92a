"""Checkerboard: uniform on the dark squares."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["Checkerboard"]


class Checkerboard(nn.Module):
    """Uniform on every other square of a 4 x 4 board over [-4, 4]^2; the density is discontinuous and zero off them."""

    dim = 2

    def __init__(self) -> None:
        super().__init__()
        corners = [(2 * i - 4.0, 2 * j - 4.0) for i in range(4) for j in range(4) if (i + j) % 2 == 0]
        self.corners: Tensor
        self.register_buffer("corners", torch.tensor(corners))

    def log_prob(self, x: Tensor, /) -> Tensor:
        """Log-density in nats, ``(B, 2) -> (B,)``: ``-log 32`` on the dark squares, ``-inf`` off them."""
        inside = ((x >= -4) & (x < 4)).all(dim=-1)
        dark = torch.floor((x + 4) / 2).sum(dim=-1).remainder(2) == 0
        level = torch.full_like(x[:, 0], -math.log(32.0))
        return torch.where(inside & dark, level, -torch.inf)

    def sample(self, n: int, /, *, generator: torch.Generator | None = None) -> Tensor:
        """``n`` independent draws, ``(n, 2)``."""
        which = torch.randint(len(self.corners), (n,), generator=generator, device=self.corners.device)
        inside = torch.rand(n, 2, generator=generator, device=self.corners.device, dtype=self.corners.dtype)
        # a hair less than the side: 2 + 2u would round up to the next square
        return self.corners[which] + (2 - 2**-20) * inside
