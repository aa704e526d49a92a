"""Rows of which some cells are known, and what is fitted to these alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import require_positive_int
from ..energies import TabularMixture
from .tabular_mixture import choose_mixture_size, fit_tabular_mixture

__all__ = ["IncompleteRows", "fit_incomplete_tabular_mixture"]


@dataclass(frozen=True)
class IncompleteRows:
    """Rows with unknown cells, which are missing at random: that one is says nothing about it that the known ones do not.

    Args:
        x: ``(N, D)``; what stands in unknown cells is a guess or of no matter, as whoever takes them says.
        known: which cells are, boolean, ``(N, D)``.

    Raises:
        ValueError: shapes that differ, or ``known`` of another type.
    """

    x: Tensor
    known: Tensor

    def __post_init__(self) -> None:
        if self.x.shape != self.known.shape or self.x.dim() != 2:
            raise ValueError(f"x and known are (N, D) both, got {tuple(self.x.shape)} and {tuple(self.known.shape)}")
        if self.known.dtype != torch.bool:
            raise ValueError(f"known is boolean, got {self.known.dtype}; compare it with something")

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: Tensor) -> IncompleteRows:
        return IncompleteRows(self.x[rows], self.known[rows])

    def to(self, device: torch.device | str) -> IncompleteRows:
        """On a device."""
        return IncompleteRows(self.x.to(device), self.known.to(device))


@torch.no_grad()
def fit_incomplete_tabular_mixture(
    rows: IncompleteRows,
    columns: Sequence[int | None],
    *,
    states: Mapping[int, int] = {},
    reserved: Mapping[int, int] = {},
    components: int | None = None,
    most_components: int = 128,
    prior_rows: float | None = None,
    turns: int = 1,
    pooled: int = 3,
    seed: int = 0,
) -> TabularMixture:
    """A mixture of products by what is known of rows: fitted and filled by its own draws in turns.

    Celeux and Diebolt, "The SEM algorithm", Computational Statistics Quarterly 2, 1985. The first turns only get away from
    what the unknown cells held; the mixtures of the last ones are pooled, each of another filling and another start, so that
    neither is taken for the truth.

    Args:
        rows: of which the first turn takes what stands in unknown cells, such as values of other rows.
        columns, states, reserved, components, most_components, prior_rows: as :func:`fit_tabular_mixture`; sizes that are not
            given are chosen at the first turn and at the first that is pooled.
        turns: before the pooled ones, 0 or more.
        pooled: turns whose mixtures are.
        seed: of all of it.

    Returns:
        The mixture, float32.

    Raises:
        ValueError: as :func:`fit_tabular_mixture`.
    """
    require_positive_int("pooled", pooled)
    if turns < 0:
        raise ValueError(f"turns must be 0 or more, got {turns!r}")
    generator = torch.Generator().manual_seed(seed)
    filled, mixtures = rows.x, list[TabularMixture]()
    for turn in range(turns + pooled):
        if turn in (0, turns):
            size = choose_mixture_size(
                filled,
                columns,
                states=states,
                reserved=reserved,
                components=components,
                most_components=most_components,
                prior_rows=prior_rows,
                seed=seed + turn,
            )
        mixture = fit_tabular_mixture(
            filled, columns, states=states, reserved=reserved, **size._asdict(), seed=seed + turn
        )
        filled = mixture.sample_given(rows.x, rows.known, generator=generator)
        if turn >= turns:
            mixtures.append(mixture)
    return TabularMixture.pooled(mixtures)
