"""log Z of discrete rows by enumeration: the oracle of everything else."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..checks import energy_values, require_finite, require_positive_int
from ..typing import Energy
from .log_z import LogZ

__all__ = ["log_z_enumeration"]

_MOST_STATES = 1 << 20


@torch.no_grad()
def log_z_enumeration(
    energy: Energy,
    categories: Sequence[int],
    *,
    batch: int = 1 << 14,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> LogZ:
    r"""log Z as the sum over all rows of codes, up to 2^20 of them.

    Args:
        energy: ``(B, D) -> (B,)`` of codes, in nats.
        categories: numbers of values 0, 1, ... of the D sites.
        batch: rows at a time.
        device, dtype: where and how precisely the energy is evaluated; sums are float64.

    Returns:
        The sum, with the number of states in place of an effective sample size and an error of 0: what is left is rounding.

    Raises:
        ValueError: sites without values, more than 2^20 rows, or an energy that is NaN or minus infinity.
        ContractError: the energy's shape is not ``(B,)``.

    >>> round(log_z_enumeration(lambda x: x.sum(1), [2, 2]).value, 4)  # 2 log(1 + 1/e)
    0.6265
    """
    require_positive_int("batch", batch)
    if isinstance(categories, int) or not categories:
        raise ValueError(f"categories must be one number of values for each site, got {categories!r}")
    for size in categories:
        require_positive_int("categories", size)
    states = math.prod(categories)
    if states > _MOST_STATES:
        raise ValueError(
            f"there are {states} rows, more than the 2^20 that can be enumerated; estimate log Z by annealing"
        )
    total = torch.tensor(-math.inf, dtype=torch.float64, device=device)
    for first in range(0, states, batch):
        number = torch.arange(first, min(first + batch, states), device=device)
        values = -energy_values(energy, _codes(number, categories).to(dtype)).double()
        require_finite("the energy", values[values != -torch.inf])  # a row may be impossible
        total = torch.logaddexp(total, torch.logsumexp(values, 0))
    return LogZ(float(total), 0.0, float(states))


def _codes(number: Tensor, categories: Sequence[int]) -> Tensor:
    """Rows by their number, the last site fastest, ``(N, D)``."""
    codes = []
    for size in reversed(categories):
        codes.append(number.remainder(size))
        number = number.div(size, rounding_mode="floor")
    return torch.stack(codes[::-1], dim=1)
