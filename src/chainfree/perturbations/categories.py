"""The numbers of values that discrete sites have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from ..checks import ContractError, require_positive_int

__all__ = ["Categories", "category_counts", "require_categories", "require_codes"]

Categories: TypeAlias = int | Sequence[int]
"""S, the number of values 0, 1, ..., S - 1 of every site, or one for each site of the last axis."""


def require_categories(categories: Categories) -> None:
    """Raise ``ValueError`` unless these are whole numbers above 1."""
    if isinstance(categories, Sequence) and not categories:
        raise ValueError("categories must be a number or one for each site, got an empty sequence")
    for value in categories if isinstance(categories, Sequence) else [categories]:
        require_positive_int("categories", value)
        if value < 2:
            raise ValueError("categories must be at least 2: one value alone says nothing; leave the site out")


def category_counts(categories: Categories, x: Tensor) -> Tensor:
    """S as one number ``()``, or as one for each site of ``x``, ``(D,)``.

    Raises:
        ValueError: another number of sites than of ``categories``.
    """
    if not isinstance(categories, int) and x.shape[-1:] != (len(categories),):
        raise ValueError(
            f"categories has {len(categories)} entries but the data have event shape {tuple(x.shape[1:])}; "
            "give one number for each site, or one for all"
        )
    return torch.tensor(categories, device=x.device)


def require_codes(x: Tensor, counts: Tensor) -> None:
    """Raise ``ContractError`` unless rows on the CPU hold whole numbers from 0 to S - 1; elsewhere looking would wait.

    Wrong codes would train: what the kernel never draws is easily told from what it draws.

    Args:
        x: ``(B, *event)``.
        counts: of :func:`category_counts`.
    """
    if x.device.type != "cpu":
        return
    wrong = (x < 0) | (x >= counts) | (x != x.long())
    if bool(wrong.any()):
        place = wrong.nonzero()[0].tolist()
        size = int(counts.expand(x.shape[-1:])[place[-1]]) if x.dim() > 1 else int(counts)
        raise ContractError(
            f"codes are whole numbers from 0 to {size - 1}, got {float(x[tuple(place)]):g} at {tuple(place[1:])} of row "
            f"{place[0]}; number the categories from 0, or raise categories"
        )
