"""Absorbing perturbation: categories are masked.

Schroeder, Ou, Li, Duncan, "Energy-Based Modelling for Discrete and Mixed Data via Heat Equations on Structured Spaces",
NeurIPS 2024, arXiv 2412.01019.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import require_positive
from .base import Perturbed
from .categories import Categories, category_counts, require_categories, require_codes

__all__ = ["Absorbing"]


@dataclass(frozen=True, kw_only=True)
class Absorbing:
    r"""A category stays with probability :math:`e^{-t}`, else it is masked; the reverse fills masks, all values alike.

    What stayed is known to have stayed, so the draws differ from the datum at masked sites only: each such row is a
    conditional of these sites given the others. Sites are independent.

    Args:
        categories: S, number of values 0, 1, ... of every site, or one for each site of flat rows. The mask is the code S.
        t: time.

    Raises:
        ValueError: less than two values, or a time that is not a finite number above 0.
    """

    categories: Categories
    t: float = 1.0

    def __post_init__(self) -> None:
        require_categories(self.categories)
        require_positive("t", self.t)

    def perturb(self, x: Tensor, /, *, generator: torch.Generator | None = None) -> Perturbed:
        """Codes ``(B, *event)``, S where masked.

        Raises:
            ValueError: another number of sites than of ``categories``.
            ContractError: codes of no category, where they are on the CPU.
        """
        counts = category_counts(self.categories, x)
        require_codes(x, counts)
        stays = torch.rand(x.shape, generator=generator, device=x.device) < math.exp(-self.t)
        return Perturbed(torch.where(stays, x, counts.to(x.dtype)))

    def recover(self, perturbed: Perturbed, draws: int, /, *, generator: torch.Generator | None = None) -> Tensor:
        """Codes ``(draws, B, *event)``, none of them S."""
        y = perturbed.y
        counts = category_counts(self.categories, y)
        drawn = torch.rand((draws, *y.shape), generator=generator, device=y.device)
        anew = torch.minimum((drawn * counts).long(), counts - 1).to(y.dtype)
        return torch.where(y == counts, anew, y)
