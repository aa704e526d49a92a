"""What every analytic energy knows about itself."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

__all__ = ["AnalyticEnergy"]


class AnalyticEnergy(nn.Module, ABC):
    """An energy with a known log Z and an exact sampler; both an ``Energy`` and a ``Density``.

    The parameters of the shape are buffers, so ``.to(device, dtype)`` moves them, and draws come in their dtype.

    Args:
        dim: number of features.
        log_z: logarithm of the partition function in nats.
    """

    def __init__(self, dim: int, log_z: float) -> None:
        super().__init__()
        self.dim = dim
        # a buffer, so that a base whose parameters are loaded from a file has its own log Z
        self._log_z: Tensor
        self.register_buffer("_log_z", torch.tensor(log_z, dtype=torch.float64))

    @property
    def log_z(self) -> float:
        """Logarithm of the partition function in nats."""
        return float(self._log_z)

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Energy in nats, ``(B, dim) -> (B,)``."""

    @abstractmethod
    def sample(self, n: int, /, *, generator: torch.Generator | None = None) -> Tensor:
        """``n`` independent exact draws, ``(n, dim)``."""

    def log_prob(self, x: Tensor, /) -> Tensor:
        """Log-density in nats, ``(B, dim) -> (B,)``."""
        energy: Tensor = self(x)
        return -energy - self._log_z.to(energy)

    def _normal(self, *shape: int, like: Tensor, generator: torch.Generator | None) -> Tensor:
        return torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)

    def _uniform(self, *shape: int, like: Tensor, generator: torch.Generator | None) -> Tensor:
        return torch.rand(shape, generator=generator, device=like.device, dtype=like.dtype)

    def _components(self, log_weights: Tensor, n: int, *, generator: torch.Generator | None) -> Tensor:
        """Indices of ``n`` draws from the weights, by the inverse of their sum: multinomial refuses n = 0 and is slower."""
        shares = log_weights.exp().cumsum(0)
        u = self._uniform(n, like=shares, generator=generator) * shares[-1]
        return torch.searchsorted(shares, u, right=True).clamp_(max=len(shares) - 1)
