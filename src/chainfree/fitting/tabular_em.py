"""Expectation maximisation of one mixture of products, of a given size.

Dempster, Laird, Rubin, "Maximum likelihood from incomplete data via the EM algorithm", JRSS B 39(1), 1977; Fraley and
Raftery, "Bayesian regularization for normal mixture estimation and model-based clustering", Journal of Classification 24,
2007, for the priors that keep small components from collapsing.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor
from torch.nn import functional

from ..energies import TabularMixture
from ..energies.analytic.mixture import whitened_distances

__all__ = ["entries_of_a_row", "fit_by_em_"]

_GAIN = 1e-4  # nats a row: an iteration that gains less is the last
_DENSE_LIMIT = 1024  # codes up to which indicators of all are kept: time for a component is then one matrix product
_FLAT_LIMIT = 64  # numbers up to which all their products are kept, for the same reason


def fit_by_em_(
    mixture: TabularMixture,
    rows: Tensor,
    *,
    prior_rows: float,
    least_variance: float,
    iterations: int,
    seed: int,
) -> TabularMixture:
    """Fill a float64 mixture with what rows ``(N, D)`` say, from a k-means of theirs, and return it."""
    components = mixture.components
    parts = _Rows.of(rows, mixture)
    responsible = _first_responsible(parts, components, seed)
    before = -torch.inf
    for _ in range(iterations if components > 1 else 1):
        _maximise_(mixture, parts, responsible, prior_rows, least_variance)
        log_joint = _log_joint(mixture, parts)
        log_prob = torch.logsumexp(log_joint, 1)
        now = float(log_prob.mean())
        if now - before < _GAIN:
            break
        before = now
        responsible = torch.exp(log_joint - log_prob.unsqueeze(1))
    return mixture


def entries_of_a_row(columns: Sequence[int | None]) -> int:
    """Numbers that are kept of each row: its products and indicators."""
    width = sum(size is None for size in columns)
    codes = sum(size for size in columns if size is not None)
    return (width**2 if width <= _FLAT_LIMIT else width) + (codes if codes <= _DENSE_LIMIT else len(columns))


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
