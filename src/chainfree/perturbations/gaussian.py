"""Gaussian perturbation: y = x + sqrt(t) xi, with t a *variance*."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import require_positive
from .base import Perturbed

__all__ = ["Gaussian", "LogUniform"]


@dataclass(frozen=True, kw_only=True)
class LogUniform:
    """A variance drawn for every datum, uniform in its logarithm between ``low`` and ``high``."""

    low: float
    high: float

    def __post_init__(self) -> None:
        require_positive("low", self.low)
        require_positive("high", self.high)
        if self.low > self.high:
            raise ValueError(f"low must not be above high, got low={self.low!r}, high={self.high!r}")

    def draw(self, n: int, like: Tensor, generator: torch.Generator | None) -> Tensor:
        """``n`` variances, ``(n,)``."""
        u = torch.rand(n, generator=generator, device=like.device, dtype=like.dtype)
        return torch.exp(math.log(self.low) + u * math.log(self.high / self.low))


@dataclass(frozen=True, kw_only=True)
class Gaussian:
    r"""Isotropic or per-feature Gaussian noise, :math:`q(y \mid x) = N(y; x, t)`; its reverse is itself.

    Small ``t`` sees local shape and tends to score matching; large ``t`` sees the weights of far modes, tends to
    maximum likelihood, and needs more draws. A :class:`LogUniform` range sees all scales in one loss: every datum keeps
    its own ``t`` in both directions, so each scale's energy discrepancy is exact and the loss is their mixture, with
    the same minimiser.

    Args:
        t: variance in squared units of the data: a number, one per feature (of flat rows), or
            :class:`LogUniform`.

    Raises:
        ValueError: a variance that is not a finite number above 0.

    >>> Gaussian(t=1.0).perturb(torch.zeros(3, 2)).y.shape
    torch.Size([3, 2])
    """

    t: float | Sequence[float] | LogUniform = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.t, LogUniform):
            return
        if isinstance(self.t, Sequence) and not self.t:
            raise ValueError("t must be a number, one per feature, or LogUniform, got an empty sequence")
        for value in self.t if isinstance(self.t, Sequence) else [self.t]:
            require_positive("t", value)

    def perturb(self, x: Tensor, /, *, generator: torch.Generator | None = None) -> Perturbed:
        """``y = x + sqrt(t) xi``, ``(B, *event)``; ``scale`` holds the standard deviations where they are not one number."""
        scale = self._scales(x, generator)
        noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        return Perturbed(self._add(x, scale, noise), scale)

    def recover(self, perturbed: Perturbed, draws: int, /, *, generator: torch.Generator | None = None) -> Tensor:
        """``x' = y + sqrt(t) xi'``, ``(draws, B, *event)``, with the datum's own ``t``."""
        y, scale = perturbed
        noise = torch.randn((draws, *y.shape), generator=generator, device=y.device, dtype=y.dtype)
        return self._add(y, scale, noise)

    def _add(self, x: Tensor, scale: Tensor | None, noise: Tensor) -> Tensor:
        if scale is not None:
            return torch.addcmul(x, scale, noise)
        assert isinstance(self.t, float | int)  # who else has no scales
        return torch.add(x, noise, alpha=math.sqrt(self.t))

    def _scales(self, x: Tensor, generator: torch.Generator | None) -> Tensor | None:
        if isinstance(self.t, LogUniform):
            return self.t.draw(len(x), x, generator).sqrt_().view(-1, *(1,) * (x.dim() - 1))
        if isinstance(self.t, Sequence):
            scale = torch.tensor(self.t, device=x.device, dtype=x.dtype).sqrt_()
            if scale.shape != x.shape[1:]:
                raise ValueError(
                    f"t has {scale.numel()} entries but the data have event shape {tuple(x.shape[1:])}; "
                    "give one variance per feature, or one number"
                )
            return scale
        return None
