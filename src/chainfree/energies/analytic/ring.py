"""Rings: circles blurred by Gaussian noise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ...checks import require_positive, require_rows
from .base import AnalyticEnergy

__all__ = ["Ring"]


class Ring(AnalyticEnergy):
    r"""Equal-weight mixture of circles of radius :math:`R_k`, each convolved with :math:`N(0, s^2 I)` in the plane.

    Closed form, with the modified Bessel function :math:`I_0`:
    :math:`p(x) = \frac1K \sum_k \frac{1}{2\pi s^2} e^{-(r^2 + R_k^2)/2s^2} I_0(r R_k / s^2)`, normalised, log Z = 0.

    Args:
        radii: radius of each ring.
        noise: :math:`s`.
    """

    def __init__(self, radii: Sequence[float] = (2.0,), *, noise: float = 0.2) -> None:
        if not radii:
            raise ValueError("radii must name at least one ring, got ()")
        for radius in radii:
            require_positive("radii", radius)
        require_positive("noise", noise)
        super().__init__(2, log_z=0.0)
        self.noise: Tensor
        self.radii: Tensor
        self.register_buffer("noise", torch.tensor(float(noise), dtype=torch.get_default_dtype()))
        self.register_buffer("radii", torch.tensor(list(radii), dtype=torch.get_default_dtype()))

    def forward(self, x: Tensor) -> Tensor:
        """Energy in nats, ``(B, 2) -> (B,)``."""
        require_rows(x, (self.dim,), self.radii)
        variance = self.noise.square()
        # the norm's gradient at the origin is undefined, the density's is zero: keep r away from an exact 0
        r = (x.square().sum(dim=-1, keepdim=True) + torch.finfo(x.dtype).tiny).sqrt()
        # i0e(z) = exp(-z) I0(z), so the exponent becomes -(r - R)^2 / 2 s^2 and nothing overflows
        log_kernel = -(r - self.radii).square() / (2 * variance)
        log_bessel = torch.special.i0e(r * self.radii / variance).log()
        log_norm = math.log(2 * math.pi * len(self.radii)) + variance.log()
        return log_norm - torch.logsumexp(log_kernel + log_bessel, dim=-1)

    def sample(self, n: int, /, *, generator: torch.Generator | None = None) -> Tensor:
        """``n`` independent draws, ``(n, 2)``."""
        which = torch.randint(len(self.radii), (n,), generator=generator, device=self.radii.device)
        angle = 2 * math.pi * self._uniform(n, like=self.radii, generator=generator)
        circle = self.radii[which].unsqueeze(-1) * torch.stack([angle.cos(), angle.sin()], dim=-1)
        return circle + self.noise * self._normal(n, 2, like=self.radii, generator=generator)
