"""Mixtures of products: their size by the likelihood of rows that they have not seen, several starts pooled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..checks import require_finite, require_positive, require_positive_int
from ..energies import TabularMixture
from .tabular_em import entries_of_a_row, fit_by_em_

__all__ = ["MixtureSize", "choose_mixture_size", "fit_tabular_mixture"]

_PATIENCE = 2  # sizes that gain nothing, before the search ends
_MOST_ENTRIES = 1 << 28  # of products and indicators of all rows together, in float64
_PRIORS = (1.0, 10.0, 100.0)
_CHOICE_ROWS = 10_000  # that sizes are chosen on


class MixtureSize(NamedTuple):
    """What :func:`choose_mixture_size` returns.

    Args:
        components: K.
        prior_rows: that every component's prior is worth.
    """

    components: int
    prior_rows: float


@torch.no_grad()
def fit_tabular_mixture(
    rows: Tensor,
    columns: Sequence[int | None],
    *,
    states: Mapping[int, int] = {},
    reserved: Mapping[int, int] = {},
    components: int | None = None,
    most_components: int = 128,
    prior_rows: float | None = None,
    starts: int = 1,
    least_variance: float = 1e-3,
    iterations: int = 100,
    shared_shape: bool = False,
    seed: int = 0,
) -> TabularMixture:
    r"""A mixture of products with a prior on every component that is worth a number of rows.

    .. math:: \Sigma_k = \frac{S_k + \nu \bar\Sigma}{N_k + \nu}, \qquad
              \theta_{kj} = \frac{n_{kj} + \nu \bar\theta_j}{N_k + \nu}

    with the scatter :math:`S_k` and counts :math:`n_{kj}` of the component's rows, the mean covariance within components
    :math:`\bar\Sigma`, and the shares :math:`\bar\theta_j` of all rows and of one more that has every code in equal parts, so
    that codes which no row has are unlikely and not impossible. Components of few rows are then
    copies of the others' shape, which is what a kernel density estimate is made of, and large ones have a shape of their own.

    Sizes that are not given are chosen: see :func:`choose_mixture_size`. The mixture is then fitted to all rows, or to as
    many as two gigabytes hold. Fits from several starts are pooled: each finds other clusters, and the mean of their
    densities makes up for what any of them got wrong (Smyth and Wolpert, "Linearly combining density estimators via
    stacking", Machine Learning 36, 1999).

    Args:
        rows: ``(N, D)``.
        columns, states, reserved: as :class:`chainfree.energies.TabularMixture`.
        components: K, or ``None`` to choose them.
        most_components: that are tried.
        prior_rows: :math:`\nu`, or ``None`` to choose it.
        starts: fits of that size, each from a k-means of its own, of which the mean is taken: K times as many components.
        least_variance: added to every number's, in squares of the rows' units: rows that lie in a plane have no density.
        iterations: at most; fewer where they gain less than 1e-4 nats a row.
        shared_shape: whether all components have the covariance :math:`\bar\Sigma`, for rows too wide for one of their own.
        seed: of the k-means that it starts from, and of the choice of rows.

    Returns:
        The mixture, float32.

    Raises:
        ValueError: no rows, more components than rows, rows that are not finite, a setting out of its range, or several
            starts of a shared shape.
    """
    require_positive_int("starts", starts)
    if shared_shape and starts > 1:
        raise ValueError(f"components of a shared shape do not share it with another start's, got {starts} starts")
    fit = _Fit(tuple(columns), dict(states), dict(reserved), least_variance, iterations, shared_shape)
    fit.require(rows, components, prior_rows)
    rows = _as_many_as_fit(rows, columns, seed)
    if components is None or prior_rows is None:
        components, prior_rows = fit.choice(rows, components, most_components, prior_rows, seed)
    starts = starts if components > 1 else 1  # there is one mixture of one component
    return TabularMixture.pooled(
        [fit.fitted(rows, components, prior_rows, seed + start).float() for start in range(starts)]
    )


@torch.no_grad()
def choose_mixture_size(
    rows: Tensor,
    columns: Sequence[int | None],
    *,
    states: Mapping[int, int] = {},
    reserved: Mapping[int, int] = {},
    components: int | None = None,
    most_components: int = 128,
    prior_rows: float | None = None,
    least_variance: float = 1e-3,
    iterations: int = 100,
    shared_shape: bool = False,
    seed: int = 0,
) -> MixtureSize:
    """Of a mixture of products, by the log-likelihood of a fifth of the rows, at most 10,000 in all.

    Components double until two sizes in a row gain nothing, for each of three priors. What is given is not chosen.

    Args:
        rows, columns, states, reserved, components, most_components, prior_rows: as :func:`fit_tabular_mixture`.
        least_variance, iterations, shared_shape, seed: as :func:`fit_tabular_mixture`.

    Raises:
        ValueError: as :func:`fit_tabular_mixture`.
    """
    fit = _Fit(tuple(columns), dict(states), dict(reserved), least_variance, iterations, shared_shape)
    fit.require(rows, components, prior_rows)
    return fit.choice(_as_many_as_fit(rows, columns, seed), components, most_components, prior_rows, seed)


@dataclass(frozen=True)
class _Fit:
    """What all sizes share."""

    columns: tuple[int | None, ...]
    states: Mapping[int, int]
    reserved: Mapping[int, int]
    least_variance: float
    iterations: int
    shared_shape: bool

    def require(self, rows: Tensor, components: int | None, prior_rows: float | None) -> None:
        """Raise ValueError where there is nothing to fit, or a setting is out of its range."""
        require_positive_int("iterations", self.iterations)
        if components is not None:
            require_positive_int("components", components)
            if components > len(rows):
                raise ValueError(f"{len(rows)} rows cannot hold {components} components; lower them")
        require_positive("least_variance", self.least_variance)
        if prior_rows is not None:
            require_positive("prior_rows", prior_rows)
        if not len(rows):
            raise ValueError("a mixture is fitted to rows, got none")
        require_finite("rows", rows)

    def choice(
        self, rows: Tensor, components: int | None, most: int, prior_rows: float | None, seed: int
    ) -> MixtureSize:
        """Components and the prior's rows by held-out likelihood."""
        require_positive_int("most_components", most)
        if components is not None and prior_rows is not None:
            return MixtureSize(components, prior_rows)
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(rows), generator=generator)[:_CHOICE_ROWS]
        held = order[: max(1, len(order) // 5)]
        kept = order[len(held) :] if len(order) > 1 else order
        best, choice = -torch.inf, MixtureSize(components or 1, prior_rows or _PRIORS[1])
        for prior in _PRIORS if prior_rows is None else [prior_rows]:
            size, behind, best_here = components or 1, 0, -torch.inf
            while size <= min(most, len(kept)) and behind < _PATIENCE:
                mixture = self.fitted(rows[kept], size, prior, seed).float()
                found = float(mixture.log_prob(rows[held]).double().mean())
                if found > best:
                    best, choice = found, MixtureSize(size, prior)
                behind = 0 if found > best_here else behind + 1
                best_here = max(best_here, found)
                if components is not None:
                    break
                size *= 2
        return choice

    def fitted(self, rows: Tensor, components: int, prior_rows: float, seed: int) -> TabularMixture:
        """By expectation maximisation from k-means, float64."""
        mixture = TabularMixture(
            self.columns,
            components=components,
            states=self.states,
            reserved=self.reserved,
            shared_shape=self.shared_shape,
        ).double()
        return fit_by_em_(
            mixture,
            rows,
            prior_rows=prior_rows,
            least_variance=self.least_variance,
            iterations=self.iterations,
            seed=seed,
        )


def _as_many_as_fit(rows: Tensor, columns: Sequence[int | None], seed: int) -> Tensor:
    """All rows, or so many drawn of them that what is kept of each stays within two gigabytes."""
    most = max(1, _MOST_ENTRIES // max(1, entries_of_a_row(columns)))
    if len(rows) <= most:
        return rows
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:most]]
