"""A linear function of rows of numbers and categories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..checks import require_positive_int, require_rows

__all__ = ["TabularLinear"]


class TabularLinear(nn.Module):
    """Logits that are linear in the shown numbers and in the indicators of all codes; zero at first.

    Args:
        columns: for every column of the rows ``None`` if it holds a number, or S if it holds codes 0, 1, ..., S - 1.
        states: which column of codes says whether a number is hidden, by the number's place; hidden numbers count as 0.
        outputs: K.

    Raises:
        ValueError: no columns, or ``outputs`` below 1.

    >>> TabularLinear([None, 3], outputs=2)(torch.tensor([[0.2, 2.0]])).tolist()
    [[0.0, 0.0]]
    """

    starts: Tensor

    def __init__(self, columns: Sequence[int | None], *, states: Mapping[int, int] = {}, outputs: int) -> None:
        super().__init__()
        if not columns:
            raise ValueError("columns is empty; give None for each number and the number of values for each category")
        require_positive_int("outputs", outputs)
        self.dim, self.outputs = len(columns), outputs
        self.hideable, self.states = list(states), list(states.values())
        self.numbers = [place for place, size in enumerate(columns) if size is None]
        self.codes = [place for place, size in enumerate(columns) if size is not None]
        sizes = [size for size in columns if size is not None]
        self.register_buffer("starts", torch.tensor([0, *sizes[:-1]], dtype=torch.long).cumsum(0)[: len(sizes)])
        self.of_numbers = nn.Parameter(torch.zeros(len(self.numbers), outputs))
        self.of_codes = nn.Parameter(torch.zeros(sum(sizes), outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, D) -> (B, K)``."""
        require_rows(x, (self.dim,), self.bias)
        numbers, places = self._parts(x)
        values = numbers @ self.of_numbers + self.bias
        if not self.codes:
            return values
        of_codes: Tensor = functional.embedding_bag(places, self.of_codes, mode="sum")
        return values + of_codes

    def features(self, x: Tensor) -> Tensor:
        """What the function is linear in, numbers and then indicators, ``(B, D) -> (B, F)``."""
        numbers, places = self._parts(x)
        indicators = x.new_zeros(len(x), len(self.of_codes)).scatter_(1, places, 1.0)
        return torch.cat([numbers, indicators], 1)

    @torch.no_grad()
    def set_(self, coefficients: Tensor, bias: Tensor) -> None:
        """Take up coefficients of :meth:`features`, ``(F, K)``, and the bias, ``(K,)``."""
        self.of_numbers.copy_(coefficients[: len(self.numbers)])
        self.of_codes.copy_(coefficients[len(self.numbers) :])
        self.bias.copy_(bias)

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        shown = x
        if self.states:
            shown = x.clone()
            shown[:, self.hideable] = torch.where(x[:, self.states] != 0, 0.0, x[:, self.hideable])
        return shown[:, self.numbers], x[:, self.codes].long() + self.starts
