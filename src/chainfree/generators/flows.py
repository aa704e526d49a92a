"""Normalising flows of zuko (extra ``flows``) as densities, energies and proposals.

Durkan, Bekasov, Murray, Papamakarios, "Neural Spline Flows", NeurIPS 2019, arXiv 1906.04032. Papamakarios, Pavlakou, Murray,
"Masked Autoregressive Flow for Density Estimation", NeurIPS 2017, arXiv 1705.07057. Dinh, Sohl-Dickstein, Bengio, "Density
Estimation Using Real NVP", ICLR 2017, arXiv 1605.08803.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ..checks import require_positive_int, require_rows
from ..energies.coordinates import Coordinates
from ..energies.layers import Activation, activation_layer, full_precision

__all__ = ["Flow", "FlowKind"]

FlowKind = Literal["nsf", "nsf-coupling", "maf", "realnvp"]


class Flow(nn.Module):
    r"""A flow over standardised features: :math:`\log p(x) = \log N(f(u(x))) + \log|\det f'(u)| + \log|\det u'(x)|`.

    A density to draw from and, called, an energy :math:`E = -\log p` with log Z = 0. Outside of five standard deviations
    splines are the identity, so tails are normal in u: bend heavy ones (``heavy_tails`` of :func:`chainfree.fit_flow`) before
    using it as a proposal. Importing zuko switches the argument checks of ``torch.distributions`` off, for the whole process.

    Args:
        dim: features of a row.
        kind: autoregressive (``nsf``, ``maf``: one pass to score, ``dim`` passes to draw) or coupling (``nsf-coupling``,
            ``realnvp``: one pass each); rational-quadratic splines or affine maps.
        transforms: maps composed.
        width, depth: units and hidden layers of the perceptron that conditions each.
        bins: of a spline.
        activation: of the perceptrons; smooth ones give smooth scores.
        coordinates: u, the identity by default; fixed.

    Raises:
        ImportError: zuko is not installed.
        ValueError: a size below 1, an unknown kind or activation, or coordinates of another width.

    >>> flow = Flow(2, kind="maf", width=8)
    >>> flow.sample(3).shape, torch.equal(flow(torch.zeros(5, 2)), -flow.log_prob(torch.zeros(5, 2)))
    (torch.Size([3, 2]), True)
    """

    normalised = True

    def __init__(
        self,
        dim: int,
        *,
        kind: FlowKind = "nsf",
        transforms: int = 3,
        width: int = 64,
        depth: int = 2,
        bins: int = 8,
        activation: Activation = "silu",
        coordinates: Coordinates | None = None,
    ) -> None:
        super().__init__()
        sizes = [("dim", dim), ("transforms", transforms), ("width", width), ("depth", depth), ("bins", bins)]
        for name, value in sizes:
            require_positive_int(name, value)
        if kind not in get_args(FlowKind):
            raise ValueError(f"kind must be one of {', '.join(get_args(FlowKind))}, got {kind!r}")
        activation_layer(activation)  # refuses unknown names
        if coordinates is not None and len(coordinates.loc) != dim:
            raise ValueError(
                f"coordinates are of {len(coordinates.loc)} features, the flow of {dim}; fit them to its rows"
            )
        self.dim = dim
        self.coordinates = Coordinates(dim) if coordinates is None else coordinates
        # the maps alone: zuko's base would draw from the global generator
        self.maps = _maps(
            kind,
            dim,
            bins,
            transforms=transforms,
            hidden_features=[width] * depth,
            activation=partial(activation_layer, activation),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Energy in nats, ``(B, dim) -> (B,)``; it is minus the log-density."""
        return -self.log_prob(x)

    def log_prob(self, x: Tensor, /) -> Tensor:
        """Log-density in nats, ``(B, dim) -> (B,)``."""
        require_rows(x, (self.dim,), next(self.maps.parameters()))
        with full_precision(x):
            z, log_abs_det = self.maps().call_and_ladj(self.coordinates(x))
            log_base = -0.5 * (z.square() + math.log(2 * math.pi)).sum(dim=-1)
            values: Tensor = log_base + log_abs_det + self.coordinates.log_abs_det(x)
        return values

    @torch.no_grad()
    def sample(self, n: int, /, *, generator: torch.Generator | None = None) -> Tensor:
        """``n`` independent draws, ``(n, dim)``.

        They invert the maps to rounding error: in float32 a steep spline's inverse may be off by 1e-3 and more.
        """
        return self.rsample(n, generator=generator)

    def rsample(self, n: int, /, *, generator: torch.Generator | None = None) -> Tensor:
        """:meth:`sample` with a graph to the flow's parameters: the draws move with them (reparametrised)."""
        like = next(self.maps.parameters())
        z = torch.randn(n, self.dim, generator=generator, device=like.device, dtype=like.dtype)
        with full_precision(z):
            return self.coordinates.inverse(self.maps().inv(z))


def _maps(kind: FlowKind, dim: int, bins: int, **settings: Any) -> nn.Module:
    """The lazy transform of zuko's flow; it is called for a transform, which has ``call_and_ladj`` and ``inv``."""
    try:
        from zuko import flows
    except ImportError as error:
        raise ImportError("zuko is missing: pip install 'chainfree[flows]'") from error
    match kind:
        case "nsf":
            flow = flows.NSF(dim, bins=bins, **settings)
        case "nsf-coupling":
            flow = flows.NSF(dim, bins=bins, passes=2, **settings)
        case "maf":
            flow = flows.MAF(dim, **settings)
        case "realnvp":
            flow = flows.RealNVP(dim, **settings)
    maps: nn.Module = flow.transform
    return maps
