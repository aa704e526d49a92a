"""Coordinates in which features have like scales and light tails."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..checks import energy_values, require_rows
from ..typing import Energy

__all__ = ["Coordinates", "InCoordinates"]

# kurtosis of a normal is 3, of a Laplace 6; above that a linear scale squeezes most rows into a point
_HEAVY_KURTOSIS = 6.0
_FEWEST_ROWS = 10


class Coordinates(nn.Module):
    r"""An invertible map of each feature: :math:`u = (h(x) - m) / s`, with mean 0 and variance 1 on the data.

    :math:`h` is the identity, or :math:`h(x) = \operatorname{arsinh}((x - c) / d)` for heavy-tailed features: linear near
    the median c, logarithmic beyond d. Buffers and arithmetic are float64, so that a column of large numbers with a small
    spread keeps its digits; the result has the type of the input.

    Args:
        dim: features; the map is the identity until it is fitted or loaded.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.heavy: Tensor
        self.centre: Tensor
        self.knee: Tensor
        self.loc: Tensor
        self.scale: Tensor
        self.register_buffer("heavy", torch.zeros(dim, dtype=torch.bool))
        self.register_buffer("centre", torch.zeros(dim, dtype=torch.float64))
        self.register_buffer("knee", torch.ones(dim, dtype=torch.float64))
        self.register_buffer("loc", torch.zeros(dim, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(dim, dtype=torch.float64))

    @classmethod
    def fit(cls, x: Tensor, *, heavy_tails: bool = True, names: Sequence[str] | None = None) -> Coordinates:
        """Fit to rows ``(N, dim)``, of which NaN are passed over.

        Args:
            x: data without constant features.
            heavy_tails: bend features whose kurtosis is above 6, with the median as centre and the median absolute
                deviation as knee.
            names: of the features, for the message.

        Raises:
            ValueError: fewer than ten rows, or a constant feature.
        """
        if len(x) < _FEWEST_ROWS:
            raise ValueError(f"{len(x)} rows are too few to scale features by; give at least {_FEWEST_ROWS}")
        rows = x.double()
        centred = rows - rows.nanmean(0)
        deviation = centred.square().nanmean(0).sqrt()
        largest = rows.abs().nan_to_num(0.0).amax(0)
        constant = (~(deviation > 1e-12 * largest)).nonzero().flatten().tolist()
        if constant:
            called = ", ".join(repr(names[i]) if names else str(i) for i in constant)
            raise ValueError(f"constant features have no density: {called}; drop them")
        coordinates = cls(x.shape[1])
        centre = rows.nanmedian(0).values
        knee = (rows - centre).abs().nanmedian(0).values
        kurtosis = (centred / deviation).pow(4).nanmean(0)
        # a zero knee means that half of the rows are equal: nothing to bend around
        heavy = (kurtosis > _HEAVY_KURTOSIS) & (knee > 0) if heavy_tails else torch.zeros_like(knee, dtype=torch.bool)
        coordinates.heavy.copy_(heavy)
        coordinates.centre.copy_(torch.where(heavy, centre, 0.0))
        coordinates.knee.copy_(torch.where(heavy, knee, 1.0))
        bent = coordinates._bend(rows)
        coordinates.loc.copy_(bent.nanmean(0))
        coordinates.scale.copy_((bent - coordinates.loc).square().nanmean(0).sqrt())
        return coordinates

    def forward(self, x: Tensor) -> Tensor:
        """To the coordinates, ``(B, dim) -> (B, dim)``."""
        self._require_width(x)
        return ((self._bend(x.double()) - self.loc) / self.scale).to(x.dtype)

    def inverse(self, u: Tensor) -> Tensor:
        """Back to the data's units, ``(B, dim) -> (B, dim)``."""
        bent = u.double() * self.scale + self.loc
        heavy = self.centre + self.knee * torch.sinh(torch.where(self.heavy, bent, 0.0))
        return torch.where(self.heavy, heavy, bent).to(u.dtype)

    def log_abs_det(self, x: Tensor) -> Tensor:
        r""":math:`\log |\det \partial u / \partial x|`, ``(B, dim) -> (B,)``."""
        return self.log_slopes(x).sum(dim=-1)

    def log_slopes(self, x: Tensor) -> Tensor:
        r""":math:`\log |\partial u_i / \partial x_i|` of each feature, ``(B, dim) -> (B, dim)``."""
        self._require_width(x)
        z = (x.double() - self.centre) / self.knee
        # d arsinh(z) / dx = 1 / (knee sqrt(1 + z^2))
        slope = torch.where(self.heavy, -0.5 * torch.log1p(z.square()) - self.knee.log(), 0.0)
        return (slope - self.scale.log()).to(x.dtype)

    def _require_width(self, x: Tensor) -> None:
        # any floating type is taken: it is float64 from here on
        require_rows(x, (len(self.loc),), x)

    def _bend(self, x: Tensor) -> Tensor:
        return torch.where(self.heavy, torch.asinh((x - self.centre) / self.knee), x)


class InCoordinates(nn.Module):
    r"""An energy of coordinates as an energy of the data: :math:`E(x) = E_u(u(x)) - \log|\det \partial u/\partial x|`.

    Both have the same log Z.

    Args:
        energy: of ``u``.
        coordinates: the map.
    """

    def __init__(self, energy: Energy, coordinates: Coordinates) -> None:
        super().__init__()
        self.energy = energy
        self.coordinates = coordinates

    def forward(self, x: Tensor) -> Tensor:
        """Energy in nats, ``(B, dim) -> (B,)``."""
        return energy_values(self.energy, self.coordinates(x)) - self.coordinates.log_abs_det(x)
