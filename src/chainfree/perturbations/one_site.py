"""One-site perturbation: one entry of a row takes another value.

The grid neighbourhood of Schroeder, Ou, Li, Duncan, "Training Discrete Energy-Based Models with Energy Discrepancy", 2023,
arXiv 2307.07595.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .base import Perturbed
from .categories import Categories, category_counts, require_categories, require_codes

__all__ = ["OneSite"]


@dataclass(frozen=True, kw_only=True)
class OneSite:
    r"""y is one of the rows that differ from x at just one site, all equally likely; the reverse is the same.

    A row has as many such neighbours as any other, :math:`\sum_d (S_d - 1)`, and is a neighbour of its neighbours. The most
    local of the discrete perturbations: what rows far from each other weigh, it does not see.

    Args:
        categories: S, number of values 0, 1, ... of every site, or one for each site of flat rows.

    Raises:
        ValueError: less than two values.
    """

    categories: Categories = 2

    def __post_init__(self) -> None:
        require_categories(self.categories)

    def perturb(self, x: Tensor, /, *, generator: torch.Generator | None = None) -> Perturbed:
        """Codes ``(B, *event)``.

        Raises:
            ValueError: another number of sites than of ``categories``.
            ContractError: codes of no category, where they are on the CPU.
        """
        flat = x.flatten(1)
        require_codes(flat, category_counts(self.categories, flat))
        return Perturbed(self._neighbours(x, generator))

    def recover(self, perturbed: Perturbed, draws: int, /, *, generator: torch.Generator | None = None) -> Tensor:
        """Codes ``(draws, B, *event)``."""
        y = perturbed.y
        return self._neighbours(y.expand(draws, *y.shape).flatten(0, 1), generator).view(draws, *y.shape)

    def _neighbours(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        flat = x.flatten(1)
        sizes = category_counts(self.categories, flat).expand(flat.shape[1])
        # every neighbour has a number: those of the first site come first
        upto = (sizes - 1).cumsum(0)
        level = torch.rand(len(flat), 1, generator=generator, device=x.device, dtype=torch.float64)
        number = torch.minimum((level * upto[-1]).long(), upto[-1] - 1)
        site = torch.searchsorted(upto, number, right=True)
        value = flat.gather(1, site).long() + upto[site] - number  # a step of 1 to S - 1 around the site's values
        return flat.scatter(1, site, value.remainder(sizes[site]).to(x.dtype)).view_as(x)
