"""Densities of columns by themselves, from bins of equal mass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..checks import require_finite, require_positive, require_positive_int
from ..energies import TabularMarginals

__all__ = ["fit_tabular_marginals"]

_ROWS_OF_A_BIN = 5


@torch.no_grad()
def fit_tabular_marginals(
    rows: Tensor,
    columns: Sequence[int | None],
    *,
    states: Mapping[int, int] = {},
    components: int = 20,
    prior_rows: float = 3.0,
    least_variance: float = 1e-3,
) -> TabularMarginals:
    r"""A normal for each of a number's bins of equal mass, and the shares of codes.

    A bin's normal has its rows' mean :math:`\mu_b`, and the variance :math:`(S_b + \nu \bar\sigma^2) / (N_b + \nu)` of their
    scatter :math:`S_b` and the mean variance within bins :math:`\bar\sigma^2`. One row more has every code in equal parts, so
    that codes which no row has are unlikely and not impossible. Where a number is hidden in a row, its bins are the others'.

    Args:
        rows: ``(N, D)``.
        columns, states: as :class:`chainfree.energies.TabularMarginals`.
        components: bins of a number at most; fewer where there are not five rows for each.
        prior_rows: :math:`\nu`.
        least_variance: added to every bin's, in squares of the rows' units.

    Returns:
        The density, float32.

    Raises:
        ValueError: no rows, rows that are not finite, a code that is none of its column's, or a setting out of its range.
    """
    require_positive_int("components", components)
    require_positive("prior_rows", prior_rows)
    require_positive("least_variance", least_variance)
    if not len(rows):
        raise ValueError("a density is fitted to rows, got none")
    require_finite("rows", rows)
    bins = max(1, min(components, len(rows) // _ROWS_OF_A_BIN))
    marginals = TabularMarginals(columns, components=bins, states=states)
    found = []
    for place in marginals.numbers:
        values = rows[:, place].double()
        found.append(_binned(values[rows[:, states[place]] == 0] if place in states else values, bins, prior_rows))
    mass, means, variances = (
        torch.stack(parts) if parts else marginals.means.double()
        for parts in ([one[part] for one in found] for part in range(3))
    )
    for place, size in zip(marginals.codes, marginals.sizes, strict=True):
        if bool(((rows[:, place] < 0) | (rows[:, place] >= size)).any()):
            raise ValueError(f"column {place} has codes from 0 to {size - 1}, and others in its rows")
    shares = [
        torch.bincount(rows[:, place].long(), minlength=size).double() + 1 / size
        for place, size in zip(marginals.codes, marginals.sizes, strict=True)
    ]
    return marginals.set_(
        weights=mass,
        means=means,
        scales=(variances + least_variance).sqrt(),
        shares=torch.cat(shares) if shares else torch.zeros(0),
    )


def _binned(values: Tensor, bins: int, prior: float) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, means and variances of bins of equal mass, ``(bins,)`` each."""
    if not len(values):
        return torch.ones(bins).double(), torch.zeros(bins).double(), torch.ones(bins).double()
    parts = torch.tensor_split(values.sort().values, bins)
    mass = torch.tensor([len(part) for part in parts], dtype=torch.float64)
    means = torch.stack([part.mean() if len(part) else values.mean() for part in parts])
    scatter = torch.stack([(part - mean).square().sum() for part, mean in zip(parts, means, strict=True)])
    within = scatter.sum() / len(values)
    return mass, means, (scatter + prior * within) / (mass + prior)
