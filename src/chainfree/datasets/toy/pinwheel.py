"""Pinwheel: Gaussian petals twisted by an angle that grows with the radius."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ...checks import require_positive, require_positive_int

__all__ = ["Pinwheel"]


class Pinwheel(nn.Module):
    r"""Petals :math:`N((m, 0), diag(a^2, b^2))`, turned by :math:`2\pi k/K + c\,e^{r/m}` with r the distance to the centre.

    The usual pinwheel twists by the coordinate along the petal, which has no closed-form density. Twisting by the radius
    draws the same picture, preserves volume and inverts exactly:
    :math:`p(x) = \frac1K \sum_k N(R(-\theta_k(|x|))\,x; (m, 0), diag(a^2, b^2))`.

    Args:
        petals: K.
        distance: m, from the centre to the middle of a petal.
        radial, tangential: a and b, standard deviations along and across a petal.
        twist: c, in radians.
    """

    dim = 2

    def __init__(
        self,
        petals: int = 5,
        *,
        distance: float = 2.0,
        radial: float = 0.6,
        tangential: float = 0.2,
        twist: float = 0.25,
    ) -> None:
        super().__init__()
        require_positive_int("petals", petals)
        for name, value in [("distance", distance), ("radial", radial), ("tangential", tangential)]:
            require_positive(name, value)
        self.starts: Tensor
        self.shape: Tensor
        self.register_buffer("starts", 2 * math.pi * torch.arange(petals) / petals)
        self.register_buffer("shape", torch.tensor([distance, radial, tangential, twist]))

    def log_prob(self, x: Tensor, /) -> Tensor:
        """Log-density in nats, ``(B, 2) -> (B,)``."""
        angle = self._angle(x).unsqueeze(-1) + self.starts
        along = x[:, :1] * angle.cos() + x[:, 1:] * angle.sin()
        across = x[:, 1:] * angle.cos() - x[:, :1] * angle.sin()
        distance, radial, tangential, _ = self.shape.unbind()
        squares = ((along - distance) / radial).square() + (across / tangential).square()
        log_norm = math.log(2 * math.pi * len(self.starts)) + (radial * tangential).log()
        return torch.logsumexp(-0.5 * squares, dim=-1) - log_norm

    def sample(self, n: int, /, *, generator: torch.Generator | None = None) -> Tensor:
        """``n`` independent draws, ``(n, 2)``."""
        which = torch.randint(len(self.starts), (n,), generator=generator, device=self.starts.device)
        scales = self.shape[1:3]
        petal = scales * torch.randn(n, 2, generator=generator, device=scales.device, dtype=scales.dtype)
        petal[:, 0] += self.shape[0]
        angle = self._angle(petal) + self.starts[which]
        cos, sin = angle.cos(), angle.sin()
        return torch.stack([petal[:, 0] * cos - petal[:, 1] * sin, petal[:, 0] * sin + petal[:, 1] * cos], dim=-1)

    def _angle(self, x: Tensor) -> Tensor:
        return self.shape[3] * torch.exp(x.norm(dim=-1) / self.shape[0])
