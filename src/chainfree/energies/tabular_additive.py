"""A sum over the columns of rows of numbers and categories.

Hastie and Tibshirani, "Generalized additive models", Statistical Science 1(3), 1986.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..checks import require_positive_int, require_rows

__all__ = ["TabularAdditive"]

_LEAST_SPREAD = 1e-2  # of a hinge, in standard deviations of its number, below which it says nothing


class TabularAdditive(nn.Module):
    r"""Logits :math:`b + \sum_j g_j(x_j)`: piecewise linear in every shown number, a value for every code; zero at first.

    A number's function bends at knots, through hinges :math:`\max(0, x - t)` in units of their standard deviation, and beyond
    the greatest number that knots were placed by they are constant. Without :meth:`place_knots_` there are none, and it is
    linear.

    Args:
        columns: for every column of the rows ``None`` if it holds a number, or S if it holds codes 0, 1, ..., S - 1.
        states: which column of codes says whether a number is hidden, by the number's place; hidden numbers count as 0.
        outputs: K.
        knots: of every number.

    Raises:
        ValueError: no columns, or ``outputs`` or ``knots`` below 1.

    >>> TabularAdditive([None, 3], outputs=2)(torch.tensor([[0.2, 2.0]])).tolist()
    [[0.0, 0.0]]
    """

    starts: Tensor
    knots: Tensor
    greatest: Tensor
    inverse_scales: Tensor

    def __init__(
        self, columns: Sequence[int | None], *, states: Mapping[int, int] = {}, outputs: int, knots: int = 3
    ) -> None:
        super().__init__()
        if not columns:
            raise ValueError("columns is empty; give None for each number and the number of values for each category")
        require_positive_int("outputs", outputs)
        require_positive_int("knots", knots)
        self.dim, self.outputs = len(columns), outputs
        self.numbers = [place for place, size in enumerate(columns) if size is None]
        self.codes = [place for place, size in enumerate(columns) if size is not None]
        self._hideable = [self.numbers.index(place) for place in states]
        self._states = list(states.values())
        sizes = [size for size in columns if size is not None]
        self.register_buffer("starts", torch.tensor([0, *sizes[:-1]], dtype=torch.long).cumsum(0)[: len(sizes)])
        self.register_buffer("knots", torch.zeros(len(self.numbers), knots))
        self.register_buffer("greatest", torch.full((len(self.numbers),), torch.inf))
        self.register_buffer("inverse_scales", torch.zeros(len(self.numbers), knots))
        self.of_numbers = nn.Parameter(torch.zeros(len(self.numbers) * (1 + knots), outputs))
        self.of_codes = nn.Parameter(torch.zeros(sum(sizes), outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, D) -> (B, K)``."""
        require_rows(x, (self.dim,), self.bias)
        values = self._of_numbers(x) @ self.of_numbers + self.bias
        if not self.codes:
            return values
        of_codes: Tensor = functional.embedding_bag(self._places(x), self.of_codes, mode="sum")
        return values + of_codes

    def features(self, x: Tensor) -> Tensor:
        """What the function is linear in: numbers, their hinges, indicators of codes, ``(B, D) -> (B, F)``."""
        indicators = x.new_zeros(len(x), len(self.of_codes)).scatter_(1, self._places(x), 1.0)
        return torch.cat([self._of_numbers(x), indicators], 1)

    @torch.no_grad()
    def place_knots_(self, rows: Tensor) -> None:
        """At quantiles of rows' shown numbers, in equal steps, ``(N, D)``."""
        count = self.knots.shape[1]
        levels = torch.arange(1, count + 1, dtype=torch.float64) / (count + 1)
        values, shown = rows[:, self.numbers].double(), self._shown(rows)
        for row in range(len(self.numbers)):
            own = values[shown[:, row], row]
            if len(own):
                # sorted by hand: torch.quantile refuses more than 16 million
                places = (levels * (len(own) - 1)).round().long()
                ordered = own.sort().values
                self.knots[row], self.greatest[row] = ordered[places].to(self.knots), ordered[-1]
                hinges = (values[:, row, None] - self.knots[row]).clamp_min(0) * shown[:, row, None]
                spread = hinges.std(0, correction=0)
                told = spread > _LEAST_SPREAD * own.std(correction=0)
                self.inverse_scales[row] = torch.where(told & (spread > 0), 1 / spread, 0.0)

    @torch.no_grad()
    def set_(self, coefficients: Tensor, bias: Tensor) -> None:
        """Take up coefficients of :meth:`features`, ``(F, K)``, and the bias, ``(K,)``."""
        self.of_numbers.copy_(coefficients[: len(self.of_numbers)])
        self.of_codes.copy_(coefficients[len(self.of_numbers) :])
        self.bias.copy_(bias)

    def _of_numbers(self, x: Tensor) -> Tensor:
        """Numbers and their hinges, ``(B, P + P H)``; hidden ones are 0."""
        values, shown = x[:, self.numbers], self._shown(x)
        hinges = self._hinges(values, shown) * self.inverse_scales
        return torch.cat([torch.where(shown, values, 0.0), hinges.flatten(1)], 1)

    def _hinges(self, values: Tensor, shown: Tensor) -> Tensor:
        """``(B, P, H)``."""
        within = torch.minimum(values, self.greatest).unsqueeze(2)
        return torch.where(shown.unsqueeze(2), (within - self.knots).clamp_min(0), 0.0)

    def _shown(self, x: Tensor) -> Tensor:
        shown = torch.ones(len(x), len(self.numbers), dtype=torch.bool, device=x.device)
        if self._states:
            shown[:, self._hideable] = x[:, self._states] == 0
        return shown

    def _places(self, x: Tensor) -> Tensor:
        return x[:, self.codes].long() + self.starts
