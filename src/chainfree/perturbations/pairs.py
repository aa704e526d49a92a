"""Kernels for pairs of a datum and its perturbed copy: conditional noise-contrastive estimation asks which is which."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ..checks import log_prob_values, require_positive
from ..typing import Density

__all__ = ["JumpPairs", "LocalPairs", "PairKernel", "Pairs"]


class Pairs(NamedTuple):
    r"""Perturbed copies of a batch.

    Args:
        y: ``(M, B, *event)``.
        log_ratio: :math:`\log q(y \mid x) - \log q(x \mid y)`, ``(M, B)``, or 0-d where it is the same for all.
    """

    y: Tensor
    log_ratio: Tensor


class PairKernel(Protocol):
    r"""A kernel :math:`q(y \mid x)` whose density is known, up to a factor that is the same both ways."""

    def draw(self, x: Tensor, draws: int, /, *, generator: torch.Generator | None = None) -> Pairs:
        """``draws`` independent copies of every row of ``(B, *event)``."""
        ...


@dataclass(frozen=True, kw_only=True)
class LocalPairs:
    r""":math:`y = x + s\,n`, n standard normal: symmetric, and blind to what lies further away than s.

    Args:
        scale: s, in units of the data.
        spread: every pair's s is multiplied by a factor from 1 to this, uniform in its logarithm; still symmetric.

    Raises:
        ValueError: a scale that is not above 0, or a spread below 1.
    """

    scale: float = 0.5
    spread: float = 1.0

    def __post_init__(self) -> None:
        require_positive("scale", self.scale)
        if not 1 <= self.spread < math.inf:
            raise ValueError(f"spread is the largest scale over the smallest, at least 1, got {self.spread!r}")

    def draw(self, x: Tensor, draws: int, /, *, generator: torch.Generator | None = None) -> Pairs:
        """See :class:`PairKernel`."""
        noise = torch.randn(draws, *x.shape, generator=generator, device=x.device, dtype=x.dtype)
        noise *= self.scale
        if self.spread > 1:
            u = torch.rand(draws, len(x), generator=generator, device=x.device, dtype=x.dtype)
            noise *= torch.exp(math.log(self.spread) * u).view(draws, len(x), *[1] * (x.dim() - 1))
        return Pairs(noise.add_(x), x.new_zeros(()))


@dataclass(frozen=True, kw_only=True)
class JumpPairs:
    r""":math:`q(y \mid x) = (1 - a)\, N(y; x, s^2 I) + a\, g(y)`: now a local step, now a jump to wherever g has mass.

    The jumps compare modes, whose weights local pairs cannot see; the local steps show the shape of each.

    Args:
        jump: g, a density as wide as the data, best one fitted to them.
        share: a, between 0 and 1.
        scale: s, in units of the data.

    Raises:
        ValueError: a scale or share out of its range.
    """

    jump: Density
    share: float = 0.5
    scale: float = 0.5

    def __post_init__(self) -> None:
        require_positive("scale", self.scale)
        if not 0 < self.share < 1:
            raise ValueError(f"share must be between 0 and 1, got {self.share!r}")

    @torch.no_grad()
    def draw(self, x: Tensor, draws: int, /, *, generator: torch.Generator | None = None) -> Pairs:
        """See :class:`PairKernel`; no gradient reaches the density."""
        noise = torch.randn(draws, *x.shape, generator=generator, device=x.device, dtype=x.dtype)
        far = self.jump.sample(draws * len(x), generator=generator).to(x).view(draws, *x.shape)
        jumps = torch.rand(draws, len(x), generator=generator, device=x.device, dtype=x.dtype) < self.share
        y = torch.where(jumps.view(draws, len(x), *[1] * (x.dim() - 1)), far, x + self.scale * noise)
        features = math.prod(x.shape[1:])
        squares = ((y - x) / self.scale).flatten(2).square().sum(2)
        local = (
            -0.5 * squares - features * (math.log(self.scale) + 0.5 * math.log(2 * math.pi)) + math.log1p(-self.share)
        )
        log_jump = math.log(self.share)
        forth = torch.logaddexp(local, log_jump + log_prob_values(self.jump, y.flatten(0, 1)).view(draws, len(x)))
        back = torch.logaddexp(local, log_jump + log_prob_values(self.jump, x))
        return Pairs(y, forth - back)
