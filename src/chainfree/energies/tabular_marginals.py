"""Columns that know nothing of each other: what a row is worth cell by cell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ..checks import require_positive_int, require_rows
from .analytic.base import AnalyticEnergy

__all__ = ["TabularMarginals"]

_MOST_ENTRIES = 1 << 22  # of rows times numbers times components at a time


class TabularMarginals(AnalyticEnergy):
    r""":math:`p(x) = \prod_j p_j(x_j)`, normalised: a mixture of normals for every number, shares for every column of codes.

    A number that may be hidden is standard normal where it is, as in :class:`TabularMixture`.

    A new one is a standard normal of the numbers and uniform over the codes, to be loaded into or filled by :meth:`set_`.

    Args:
        columns: for every column of the rows ``None`` if it holds a number, or S if it holds codes 0, 1, ..., S - 1.
        components: K, of every number.
        states: which column of codes says whether a number is hidden, by the number's place.

    Raises:
        ValueError: no columns, or ``components`` below 1.

    >>> marginals = TabularMarginals([None, 3], components=2)
    >>> marginals.log_prob(torch.tensor([[0.0, 2.0]])).exp()  # 1/3 of the normal's 0.3989
    tensor([0.1330])
    """

    def __init__(self, columns: Sequence[int | None], *, components: int, states: Mapping[int, int] = {}) -> None:
        if not columns:
            raise ValueError("columns is empty; give None for each number and the number of values for each category")
        require_positive_int("components", components)
        super().__init__(len(columns), log_z=0.0)
        self.components = components
        self.numbers = [place for place, size in enumerate(columns) if size is None]
        self.codes = [place for place, size in enumerate(columns) if size is not None]
        self.sizes = [size for size in columns if size is not None]
        self.hideable, self.states = list(states), list(states.values())
        self._among_numbers = [self.numbers.index(place) for place in self.hideable]
        self.starts = [sum(self.sizes[:place]) for place in range(len(self.sizes))]
        self.log_weights: Tensor
        self.means: Tensor
        self.scales: Tensor
        self.log_shares: Tensor
        shape = (len(self.numbers), components)
        self.register_buffer("log_weights", torch.full(shape, -math.log(components)))
        self.register_buffer("means", torch.zeros(shape))
        self.register_buffer("scales", torch.ones(shape))
        even = [torch.full((size,), -math.log(size)) for size in self.sizes]
        self.register_buffer("log_shares", torch.cat(even) if even else torch.zeros(0))

    @torch.no_grad()
    def set_(self, *, weights: Tensor, means: Tensor, scales: Tensor, shares: Tensor) -> TabularMarginals:
        """Take up parameters.

        Args:
            weights: of every number's components, ``(P, K)``, of which none is negative; scaled to sum to one.
            means, scales: and standard deviations, in the order of the columns, ``(P, K)``.
            shares: of all columns' codes one after the other, ``(sum of S,)``, positive; scaled to sum to one in every
                column.

        Raises:
            ValueError: a standard deviation that is not positive.
        """
        if not bool((scales > 0).all()):
            raise ValueError("standard deviations must be positive")
        self.log_weights.copy_(torch.log_softmax(weights.double().log(), 1))
        self.means.copy_(means)
        self.scales.copy_(scales)
        for start, size in zip(self.starts, self.sizes, strict=True):
            own = slice(start, start + size)
            self.log_shares[own] = torch.log_softmax(shares[own].double().log(), 0).to(self.log_shares)
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Energy in nats, ``(B, D) -> (B,)``."""
        return self.by_column(x).sum(1)

    def by_column(self, x: Tensor) -> Tensor:
        """Each column's part of the energy in nats, ``(B, D) -> (B, D)``; a number's state is a column of its own."""
        require_rows(x, (self.dim,), self.means)
        at_once = max(1, _MOST_ENTRIES // max(1, self.means.numel()))
        if len(x) > at_once:
            return torch.cat([self.by_column(part) for part in x.split(at_once)])
        parts = torch.zeros_like(x)
        if self.numbers:
            values = x[:, self.numbers]
            # (x - m) / s as x / s - m / s, and constants in one pass; with rows last, sums over components run along memory
            inverse = 1 / self.scales
            away = torch.addcmul((-self.means * inverse).unsqueeze(2), values.T.unsqueeze(1), inverse.unsqueeze(2))
            constant = self.log_weights - self.scales.log() - 0.5 * math.log(2 * math.pi)
            of_numbers = -torch.logsumexp(torch.addcmul(constant.unsqueeze(2), away, away, value=-0.5), 1).T
            if self.hideable:
                hidden = x[:, self.states] != 0
                filler = 0.5 * x[:, self.hideable].square() + 0.5 * math.log(2 * math.pi)
                of_numbers[:, self._among_numbers] = torch.where(hidden, filler, of_numbers[:, self._among_numbers])
            parts[:, self.numbers] = of_numbers
        if self.codes:
            places = x[:, self.codes].long() + torch.tensor(self.starts, device=x.device)
            parts[:, self.codes] = -functional.embedding(places, self.log_shares.unsqueeze(1)).squeeze(2)
        return parts

    def sample(self, n: int, /, *, generator: torch.Generator | None = None) -> Tensor:
        """``n`` independent draws, ``(n, D)``, of all codes: those that a table's encoder reserves are among them."""
        x = self.means.new_zeros(n, self.dim)
        for place, start, size in zip(self.codes, self.starts, self.sizes, strict=True):
            x[:, place] = self._components(self.log_shares[start : start + size], n, generator=generator).to(x)
        for row, place in enumerate(self.numbers):
            component = self._components(self.log_weights[row], n, generator=generator)
            noise = self._normal(n, like=self.means, generator=generator)
            drawn = self.means[row, component] + self.scales[row, component] * noise
            if place in self.hideable:
                hidden = x[:, self.states[self.hideable.index(place)]] != 0
                drawn = torch.where(hidden, noise, drawn)
            x[:, place] = drawn
        return x
