"""The network that corrects a density: experts on what a mixture leaves unexplained of a row.

A row's residual under a good mixture looks like normal noise; what is left are heavy tails of its projections, and which of
them go together. So the first layer is products of Student-t experts (Welling, Hinton, Osindero, "Learning Sparse Topographic
Representations with Products of Student-t Distributions", NeurIPS 2002), weighted for each shape of the mixture, and a
perceptron on their outputs.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from chainfree.generators import Flow
from chainfree.typing import Density

from .scale_mixture import Reading, ScaleMixture

_ROWS_AT_A_TIME = 4096
_NORMAL_MEAN = 0.55  # about that of log(1 + h^2) for a normal h


class Reader(Protocol):
    """What the experts read rows through: a fitted mixture, or a flow with the mixture's shares."""

    dim: int
    shapes: int

    def read(self, x: Tensor) -> Reading: ...


class FlowReader(nn.Module):
    """A flow's own residual, the normal noise that it maps a row to, with a mixture's shares."""

    def __init__(self, flow: Flow, mixture: ScaleMixture) -> None:
        super().__init__()
        self.flow, self.mixture = flow, mixture
        self.dim, self.shapes = flow.dim, mixture.shapes

    def read(self, x: Tensor) -> Reading:
        residual = torch.cat([self._residual(part) for part in x.split(_ROWS_AT_A_TIME)])
        log_prob, shares, _ = self.mixture.read(x)
        return Reading(log_prob, shares, residual)

    def _residual(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.flow.maps()(self.flow.coordinates(x)))


class Experts(nn.Module):
    r"""An energy of residuals and shares that cannot leave :math:`(-b, b)`.

    The bound keeps importance weights in :math:`[e^{-b}, e^b]`: no draw of the base can then outweigh all others, and
    log Z is sure to be finite.

    Args:
        dim: of the residual.
        shapes: shares beside it.
        bound: b in nats.
    """

    def __init__(self, dim: int, shapes: int, *, experts: int, width: int, depth: int, bound: float) -> None:
        super().__init__()
        self.dim, self.bound = dim, bound
        self.filters = nn.Linear(dim, experts)
        nn.init.normal_(self.filters.weight, std=2 / dim**0.5)
        nn.init.zeros_(self.filters.bias)
        self.weights = nn.Linear(shapes, experts)
        nn.init.zeros_(self.weights.weight)
        nn.init.zeros_(self.weights.bias)
        sizes = [experts + shapes, *[width] * depth]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.last = nn.Linear(width, 1)

    def forward(self, features: Tensor) -> Tensor:
        """``(B, dim + shapes) -> (B,)``."""
        residual, shares = features[:, : self.dim], features[:, self.dim :]
        tails = torch.log1p(self.filters(residual).square())
        first, *rest = self.hidden
        h = functional.silu(first(torch.cat([tails - _NORMAL_MEAN, shares], dim=1)))
        for layer in rest:
            h = h + functional.silu(layer(h))
        raw = self.last(h).squeeze(1) + (tails * self.weights(shares)).sum(1) / len(self.filters.bias) ** 0.5
        return cast(Tensor, self.bound * torch.tanh(raw / self.bound))


class Correction(nn.Module):
    """The experts as a network of rows."""

    def __init__(self, reader: Reader, experts: Experts) -> None:
        super().__init__()
        self.reader = reader
        self.experts = experts  # last: its last layer is the one that starts at zero

    def forward(self, x: Tensor) -> Tensor:
        """``(B, dim) -> (B,)``."""
        found = self.reader.read(x)
        return cast(Tensor, self.experts(torch.cat([found.residual, found.shares], dim=1)))


def prepared(base: Density, noise: Density, reader: Reader, x: Tensor) -> Tensor:
    """Residuals, shares and log-densities of base and noise in one table, ``(N, dim) -> (N, dim + shapes + 2)``."""
    with torch.no_grad():
        found = reader.read(x)
        log_base = log_prob(base, x)
        log_noise = log_base if noise is base else log_prob(noise, x)
        return torch.cat([found.residual, found.shares, log_base.unsqueeze(1), log_noise.unsqueeze(1)], dim=1)


def log_prob(density: Density, x: Tensor) -> Tensor:
    """Some thousand rows at a time."""
    with torch.no_grad():
        return torch.cat([density.log_prob(part) for part in x.split(_ROWS_AT_A_TIME)])


class PreparedNoise:
    """Draws of the noise as prepared rows, for noise-contrastive estimation.

    Args:
        base: of the energy.
        noise: what is drawn from.
        pool: draws made once; with 0 every draw is new, and the experts cannot learn draws by heart.
    """

    def __init__(self, base: Density, noise: Density, reader: Reader, pool: int) -> None:
        self.base, self.noise, self.reader = base, noise, reader
        generator = torch.Generator().manual_seed(1)
        self.rows = prepared(base, noise, reader, noise.sample(pool, generator=generator)) if pool else None
        self._left: list[Tensor] = []

    def sample(self, n: int, /, *, generator: torch.Generator | None = None) -> Tensor:
        if self.rows is not None:
            return self.rows[torch.randint(len(self.rows), (n,), generator=generator)]
        if not self._left:  # many at a time: a mixture draws for one shape after the other
            draws = self.noise.sample(n * max(1, _ROWS_AT_A_TIME // n), generator=generator)
            self._left = list(prepared(self.base, self.noise, self.reader, draws).split(n))
        return self._left.pop()

    def log_prob(self, rows: Tensor, /) -> Tensor:
        return rows[:, -1]


class BaseOfPrepared:
    """The density of prepared rows, without any rows: copies of an energy copy it too."""

    def log_prob(self, rows: Tensor, /) -> Tensor:
        return rows[:, -2]


class OfPrepared(nn.Module):
    """The experts as a network of prepared rows."""

    def __init__(self, experts: Experts) -> None:
        super().__init__()
        self.experts = experts

    def forward(self, rows: Tensor) -> Tensor:
        """``(B, dim + shapes + 2) -> (B,)``."""
        return cast(Tensor, self.experts(rows[:, :-2]))
