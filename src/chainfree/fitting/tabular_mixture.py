"""Mixtures of products by expectation maximisation, their size by the likelihood of rows they have not seen.

Dempster, Laird, Rubin, "Maximum likelihood from incomplete data via the EM algorithm", JRSS B 39(1), 1977; Fraley and
Raftery, "Bayesian regularization for normal mixture estimation and model-based clustering", Journal of Classification 24,
2007, for the priors that keep small components from collapsing.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor
from torch.nn import functional

from ..checks import require_finite, require_positive, require_positive_int
from ..energies import TabularMixture
from ..energies.analytic.mixture import whitened_distances

__all__ = ["MixtureSize", "choose_mixture_size", "fit_tabular_mixture"]

_GAIN = 1e-4  # nats a row: an iteration that gains less is the last
_DENSE_LIMIT = 1024  # codes up to which indicators of all are kept, for the same reason
_FLAT_LIMIT = 64  # numbers up to which all their products are kept: time for a component is then one matrix product
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


@dataclass(frozen=True)
class _Rows:
    """Rows taken apart, in float64.

    Args:
        normal: numbers that are always there, ``(N, P)``.
        shown: the others, 0 where hidden, ``(N, H)``.
        is_shown: where they are not, ``(N, H)``.
        places: of the codes among all columns' codes, ``(N, columns)``.
        indicators: of the codes, ``(N, sum of S)``, or ``None`` where they are too many.
        products: of the numbers, ``(N, P * P)``, or ``None`` where they are too many.
    """

    normal: Tensor
    shown: Tensor
    is_shown: Tensor
    places: Tensor
    indicators: Tensor | None
    products: Tensor | None

    @classmethod
    def of(cls, rows: Tensor, shape: TabularMixture) -> _Rows:
        x = rows.double()
        is_shown = (x[:, shape.states] == 0).double()
        normal = x[:, shape.normal]
        starts = torch.tensor(shape.starts, dtype=torch.long)
        places = x[:, shape.codes].long() + starts
        indicators = None
        if 0 < len(shape.log_shares) <= _DENSE_LIMIT:
            indicators = x.new_zeros(len(x), len(shape.log_shares)).scatter_(1, places, 1.0)
        few = normal.shape[1] <= _FLAT_LIMIT and not shape.shared_shape
        return cls(
            normal,
            x[:, shape.hideable] * is_shown,
            is_shown,
            places,
            indicators,
            (normal.unsqueeze(2) * normal.unsqueeze(1)).flatten(1) if few else None,
        )

    def of_codes(self, values: Tensor) -> Tensor:
        """Of values ``(sum of S, K)`` the sum over a row's codes, ``(N, K)``."""
        if self.indicators is not None:
            return self.indicators @ values
        if not self.places.shape[1]:
            return values.new_zeros(len(self.places), values.shape[1])
        summed: Tensor = functional.embedding_bag(self.places, values, mode="sum")
        return summed

    def counts(self, shares: Tensor, codes: int) -> Tensor:
        """Of rows' shares ``(N, K)`` the sum over the rows that have a code, ``(sum of S, K)``."""
        if self.indicators is not None:
            return self.indicators.T @ shares
        found = shares.new_zeros(codes, shares.shape[1])
        for column in self.places.T:
            found.index_add_(0, column, shares)
        return found


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
        parts = _Rows.of(rows, mixture)
        responsible = _first_responsible(parts, components, seed)
        before = -torch.inf
        for _ in range(self.iterations if components > 1 else 1):
            _maximise_(mixture, parts, responsible, prior_rows, self.least_variance)
            log_joint = _log_joint(mixture, parts)
            log_prob = torch.logsumexp(log_joint, 1)
            now = float(log_prob.mean())
            if now - before < _GAIN:
                break
            before = now
            responsible = torch.exp(log_joint - log_prob.unsqueeze(1))
        return mixture


def _as_many_as_fit(rows: Tensor, columns: Sequence[int | None], seed: int) -> Tensor:
    """All rows, or so many drawn of them that what is kept of each stays within two gigabytes."""
    width = sum(size is None for size in columns)
    codes = sum(size for size in columns if size is not None)
    kept = (width**2 if width <= _FLAT_LIMIT else width) + (codes if codes <= _DENSE_LIMIT else len(columns))
    most = max(1, _MOST_ENTRIES // max(1, kept))
    if len(rows) <= most:
        return rows
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:most]]


def _first_responsible(parts: _Rows, components: int, seed: int) -> Tensor:
    """One-hot of clusters, in which categories weigh as much as numbers do."""
    if components == 1:
        return parts.normal.new_ones(len(parts.normal), 1)
    features = torch.cat([parts.normal, parts.shown], 1)
    if parts.indicators is not None:
        features = torch.cat([features, parts.indicators], 1)
    if not features.shape[1]:  # codes alone, and too many for distances
        chosen = torch.randint(components, (len(features),), generator=torch.Generator().manual_seed(seed))
        return functional.one_hot(chosen, components).double()
    with warnings.catch_warnings():
        # of rows with fewer different values than components, some clusters are empty and keep the prior's shape
        warnings.simplefilter("ignore", ConvergenceWarning)
        labels = KMeans(components, n_init=1, max_iter=20, random_state=seed % 2**32).fit_predict(np.asarray(features))
    return functional.one_hot(torch.from_numpy(labels).long(), components).double()


def _log_joint(mixture: TabularMixture, parts: _Rows) -> Tensor:
    """``(N, K)``, but for what is known of hidden numbers: in products of rows, a tenth of the time of the mixture's own way.

    Squares lose digits where components are narrow and far from zero, which float64 has to spare and float32 has not.
    """
    log_det = mixture.factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    constant = mixture.log_weights - log_det - 0.5 * len(mixture.normal) * math.log(2 * math.pi)
    if parts.products is None:
        quadratic = -0.5 * whitened_distances(parts.normal, mixture.whiten, mixture.whitened_means).T
    else:
        precisions = torch.einsum("ikp,ikq->kpq", mixture.whiten, mixture.whiten)
        slopes = (precisions @ mixture.means.unsqueeze(2)).squeeze(2)
        constant = constant - 0.5 * (mixture.means * slopes).sum(1)
        quadratic = torch.addmm(parts.normal @ slopes.T, parts.products, precisions.flatten(1).T, alpha=-0.5)
    inverse = mixture.shown_scales.pow(-2)
    means = mixture.shown_means
    of_shown = -0.5 * means.square() * inverse + 0.5 * inverse.log() - 0.5 * math.log(2 * math.pi)
    shown = parts.shown @ (means * inverse).T - 0.5 * parts.shown.square() @ inverse.T + parts.is_shown @ of_shown.T
    return constant + quadratic + shown + parts.of_codes(mixture.log_shares)


def _maximise_(mixture: TabularMixture, parts: _Rows, responsible: Tensor, prior: float, least_variance: float) -> None:
    mass = responsible.sum(0)  # (K,)
    floor = mass.clamp_min(1e-10)
    means = (responsible.T @ parts.normal) / floor.unsqueeze(1)
    eye = torch.eye(means.shape[1], dtype=means.dtype)
    if mixture.shared_shape:
        between = (mass.unsqueeze(1) * means).T @ means
        shapes = ((parts.normal.T @ parts.normal - between) / len(parts.normal)).unsqueeze(0)
    else:
        scatter = _scatter(parts, responsible, means, mass)
        pooled = scatter.sum(0) / len(parts.normal)
        shapes = (scatter + prior * pooled) / (mass + prior).view(-1, 1, 1)
    # a number is shown in some rows of a component only
    seen = responsible.T @ parts.is_shown  # (K, H)
    everywhere = parts.is_shown.sum(0).clamp_min(1.0)
    overall = parts.shown.sum(0) / everywhere
    shown_means = (responsible.T @ parts.shown + overall) / (seen + 1)
    squares = responsible.T @ parts.shown.square()
    spread = squares - 2 * shown_means * (responsible.T @ parts.shown) + shown_means.square() * seen
    pooled_spread = spread.sum(0) / everywhere
    shown_scales = ((spread + prior * pooled_spread) / (seen + prior) + least_variance).sqrt()
    mixture.set_(
        weights=mass + 1e-6 * len(parts.normal) / len(mass),
        means=means,
        covariances=shapes + least_variance * eye,
        shown_means=shown_means,
        shown_scales=shown_scales,
        shares=_shares(mixture, parts, responsible, prior),
    )


def _scatter(parts: _Rows, responsible: Tensor, means: Tensor, mass: Tensor) -> Tensor:
    """``(K, P, P)`` around the means."""
    if parts.products is not None:
        width = means.shape[1]
        about_zero = (responsible.T @ parts.products).view(len(means), width, width)
        return about_zero - mass.view(-1, 1, 1) * means.unsqueeze(2) * means.unsqueeze(1)
    found = []
    for share, mean in zip(responsible.T, means, strict=True):
        centred = parts.normal - mean
        found.append((share.unsqueeze(1) * centred).T @ centred)
    return torch.stack(found)


def _shares(mixture: TabularMixture, parts: _Rows, responsible: Tensor, prior: float) -> Tensor:
    """``(sum of S, K)``, unnormalised."""
    counts = parts.counts(responsible, len(mixture.log_shares))
    sizes = torch.tensor(mixture.sizes, dtype=torch.long)
    even = (1 / sizes).repeat_interleave(sizes).to(counts)
    overall = (counts.sum(1) + even) / (len(parts.normal) + 1)
    return counts + prior * overall.unsqueeze(1)
