"""Mixture of products over rows of numbers and categories: the base that energies of tables are tilted from.

Everitt, "A finite mixture model for the clustering of mixed-mode data", Statistics & Probability Letters 6(5), 1988.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ..checks import require_positive_int, require_rows
from .analytic.base import AnalyticEnergy
from .analytic.mixture import whitened_distances, whitening

__all__ = ["TabularMixture"]

_MOST_ENTRIES = 1 << 24  # of what is gathered for draws at a time
_COMPONENTS_OF = {  # which axis of a buffer they are
    "log_weights": 0,
    "means": 0,
    "factors": 0,
    "whiten": 1,
    "whitened_means": 1,
    "shown_means": 0,
    "shown_scales": 0,
    "log_shares": 1,
}


class TabularMixture(AnalyticEnergy):
    r""":math:`p(x) = \sum_k \pi_k\, N(x_{num}; \mu_k, \Sigma_k) \prod_h p_k(x_h, s_h) \prod_j \theta_{kj}(x_j)`, normalised.

    Within a component, numbers that are always there are jointly normal; one that may be hidden is normal where it is shown
    and standard normal where it is not; categories are independent. All dependence between categories is the components'.
    Not only the density is exact: so are draws, and draws of any columns given any others.

    A new one is a standard normal of the numbers and uniform over the codes in every component, to be loaded into or filled
    by :meth:`set_`.

    Args:
        columns: for every column of the rows ``None`` if it holds a number, or S if it holds codes 0, 1, ..., S - 1.
        components: K.
        states: which column of codes says whether a number is hidden, by the number's place; as
            :attr:`chainfree.tables.TableEncoder.states`.
        reserved: how many of a column's last codes no draw has, by its place; as
            :attr:`chainfree.tables.TableEncoder.reserved`. They keep their small probability for rows that have them.
        shared_shape: whether all components have one covariance of the numbers, in place of K: where rows are wide, that
            is a K-th of the memory and, since rows are whitened once, of the time.

    Raises:
        ValueError: no columns or components.

    >>> mixture = TabularMixture([None, 3], components=2)
    >>> mixture.sample(5).shape, mixture.log_prob(torch.tensor([[0.0, 2.0]])).exp()  # 1/3 of the normal's 0.3989
    (torch.Size([5, 2]), tensor([0.1330]))
    """

    def __init__(
        self,
        columns: Sequence[int | None],
        *,
        components: int,
        states: Mapping[int, int] = {},
        reserved: Mapping[int, int] = {},
        shared_shape: bool = False,
    ) -> None:
        if not columns or components < 1:
            raise ValueError(f"a mixture has columns and components, got {len(columns)} and {components}")
        super().__init__(len(columns), log_z=0.0)
        self.components = components
        self.hideable, self.states = list(states), list(states.values())
        self.normal = [place for place, size in enumerate(columns) if size is None and place not in states]
        self.codes = [place for place, size in enumerate(columns) if size is not None]
        self.sizes = [size for size in columns if size is not None]
        self.drawn = [size - reserved.get(place, 0) for place, size in enumerate(columns) if size is not None]
        self.starts = [sum(self.sizes[:place]) for place in range(len(self.sizes))]
        width, hideable = len(self.normal), len(self.hideable)
        self.shared_shape = shared_shape
        shapes = 1 if shared_shape else components
        self.log_weights: Tensor
        self.means: Tensor
        self.factors: Tensor
        self.whiten: Tensor
        self.whitened_means: Tensor
        self.shown_means: Tensor
        self.shown_scales: Tensor
        self.log_shares: Tensor
        self.register_buffer("log_weights", torch.full((components,), -math.log(components)))
        self.register_buffer("means", torch.zeros(components, width))
        self.register_buffer("factors", torch.eye(width).repeat(shapes, 1, 1))
        self.register_buffer("whiten", torch.eye(width).unsqueeze(1).repeat(1, shapes, 1))
        self.register_buffer("whitened_means", torch.zeros(width, components, 1))
        self.register_buffer("shown_means", torch.zeros(components, hideable))
        self.register_buffer("shown_scales", torch.ones(components, hideable))
        shares = [torch.full((size, components), -math.log(size)) for size in self.sizes]
        self.register_buffer("log_shares", torch.cat(shares) if shares else torch.zeros(0, components))

    @torch.no_grad()
    def set_(
        self,
        *,
        weights: Tensor,
        means: Tensor,
        covariances: Tensor,
        shown_means: Tensor,
        shown_scales: Tensor,
        shares: Tensor,
    ) -> TabularMixture:
        """Take up parameters.

        Args:
            weights: of the components, positive, ``(K,)``; scaled to sum to one.
            means, covariances: of the numbers that are always there, in the order of the columns, ``(K, P)``, ``(K, P, P)``;
                of the one shape of all ``(1, P, P)``.
            shown_means, shown_scales: means and standard deviations of the others where they are shown, ``(K, H)``.
            shares: of all columns' codes one after the other, ``(sum of S, K)``, positive; scaled to sum to one in every
                column.

        Raises:
            ValueError: a covariance that is not positive definite.
        """
        factors, info = torch.linalg.cholesky_ex(covariances.double())
        if bool((info != 0).any()):
            raise ValueError("a covariance is not positive definite; add a small multiple of the identity")
        self.log_weights.copy_(torch.log_softmax(weights.double().log(), 0))
        self.means.copy_(means)
        self.factors.copy_(factors)
        whiten, whitened_means = whitening(factors, means)
        self.whiten.copy_(whiten)
        self.whitened_means.copy_(whitened_means)
        self.shown_means.copy_(shown_means)
        self.shown_scales.copy_(shown_scales)
        for start, size in zip(self.starts, self.sizes, strict=True):
            own = slice(start, start + size)
            self.log_shares[own] = torch.log_softmax(shares[own].double().log(), 0).to(self.log_shares)
        return self

    @classmethod
    @torch.no_grad()
    def pooled(cls, mixtures: Sequence[TabularMixture]) -> TabularMixture:
        """All mixtures' components in one, the mixtures in equal parts.

        Args:
            mixtures: of the same columns, none of a shared shape if there are several.

        Raises:
            ValueError: no mixtures, other columns, or a shared shape among several.
        """
        if not mixtures:
            raise ValueError("mixtures is empty")
        if len(mixtures) == 1:
            return mixtures[0]
        layouts = {(*m.normal, None, *m.states, None, *m.hideable, None, *m.codes, None, *m.drawn) for m in mixtures}
        if len(layouts) > 1:
            raise ValueError("the mixtures are of other columns; pool those of one table")
        if any(mixture.shared_shape for mixture in mixtures):
            raise ValueError("components of a shared shape do not share it with another mixture's")
        whole = copy.deepcopy(mixtures[0])
        whole.components = sum(mixture.components for mixture in mixtures)
        for name, axis in _COMPONENTS_OF.items():
            setattr(whole, name, torch.cat([getattr(mixture, name) for mixture in mixtures], axis))
        whole.log_weights -= math.log(len(mixtures))
        return whole

    def forward(self, x: Tensor) -> Tensor:
        """Energy in nats, ``(B, D) -> (B,)``."""
        return -torch.logsumexp(self.log_joint(x), 1)

    def log_joint(self, x: Tensor) -> Tensor:
        r""":math:`\log \pi_k p_k(x)`, ``(B, K)``; its softmax is who is responsible for a row."""
        require_rows(x, (self.dim,), self.means)
        # every term is a pass over B K numbers, which is what this costs: constants go into one, and there is no other. Rows
        # lie along memory, as the distances have them: a sum over components is then several times faster than across it
        constant = self.log_weights
        if self.normal:
            log_det = self.factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)
            constant = constant - (log_det + 0.5 * len(self.normal) * math.log(2 * math.pi))
        log_joint = constant.unsqueeze(1).expand(-1, len(x))
        if self.normal:
            distances = whitened_distances(x[:, self.normal], self.whiten, self.whitened_means)
            log_joint = torch.add(log_joint, distances, alpha=-0.5)
        if self.hideable:
            log_joint = log_joint + self._log_shown(x).T
        if self.codes:
            log_joint = log_joint + self._log_codes(x).T
        return log_joint.T

    def sample(self, n: int, /, *, generator: torch.Generator | None = None) -> Tensor:
        """``n`` independent draws, ``(n, D)``."""
        return self._sample_of(self._components(self.log_weights, n, generator=generator), generator)

    def log_marginal(self, x: Tensor, fixed: Tensor) -> Tensor:
        """Log-density in nats of the fixed cells of every row, whatever the others are, ``(B,)``.

        Args:
            x, fixed: as for :meth:`sample_given`.

        Raises:
            ValueError: as :meth:`sample_given`.
        """
        return torch.logsumexp(self._log_joint_of(x, fixed, self._patterns(x, fixed), self._covariances()), 1)

    def sample_given(
        self, x: Tensor, fixed: Tensor, *, draws: int = 1, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draws of the other columns given the fixed ones, for every row, ``(B * draws, D)``, a row's own beside each other.

        Args:
            x: rows ``(B, D)``, of which only fixed cells are read.
            fixed: which cells are, boolean, ``(B, D)``. A number and its state go together.
            draws: of each row.
            generator: source of randomness on the device of the mixture.

        Raises:
            ValueError: another shape, a number that is fixed without its state, or ``draws`` below 1.
        """
        require_positive_int("draws", draws)
        patterns = self._patterns(x, fixed)
        covariances = self._covariances()
        component = _categorical(self._log_joint_of(x, fixed, patterns, covariances), generator, draws).flatten()
        drawn = self._sample_of(component, generator).unflatten(0, (len(x), draws))
        component = component.view(len(x), draws)
        for pattern, rows in patterns:
            if not bool(pattern.any()) or bool(pattern.all()):  # nothing that the draws could be given, or left to draw
                continue
            gain = self._gain(pattern, covariances)
            for part in rows.split(max(1, _MOST_ENTRIES // (draws * gain[0].numel()))):  # a matrix for every draw
                known = x[part][:, self.normal].repeat_interleave(draws, 0)
                own = drawn[part].flatten(0, 1)
                away = (known - own[:, self.normal])[:, pattern]
                # joint draws made conditional (Matheron's rule): x_u + S_uf S_ff^-1 (x_f - x_f')
                own[:, self.normal] += self._by_shape(gain, component[part].flatten(), away)
                drawn[part] = own.unflatten(0, (len(part), draws))
        return torch.where(fixed.unsqueeze(1), x.unsqueeze(1), drawn).flatten(0, 1)

    def _log_joint_of(
        self, x: Tensor, fixed: Tensor, patterns: list[tuple[Tensor, Tensor]], covariances: Tensor
    ) -> Tensor:
        """:meth:`log_joint` of the fixed cells alone, ``(B, K)``."""
        log_joint = self.log_weights + self._log_shown(x, fixed) + self._log_codes(x, fixed)
        for pattern, rows in patterns:
            if bool(pattern.any()):
                log_joint[rows] += self._log_marginal(x[rows][:, self.normal], pattern, covariances)
        return log_joint

    def _covariances(self) -> Tensor:
        """Of the numbers in every component, ``(K, P, P)``."""
        return self.factors @ self.factors.mT

    def _patterns(self, x: Tensor, fixed: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Which numbers are known, ``(P,)``, and the places of the rows where it is these."""
        require_rows(x, (self.dim,), self.means)
        if fixed.shape != x.shape or not torch.equal(fixed[:, self.hideable], fixed[:, self.states]):
            raise ValueError(
                f"fixed must say of every cell of {tuple(x.shape)} whether it is, and the same of a number and its state"
            )
        if not self.normal:
            return []
        patterns, pattern_of = torch.unique(fixed[:, self.normal], dim=0, return_inverse=True)
        return [(pattern, (pattern_of == number).nonzero().flatten()) for number, pattern in enumerate(patterns)]

    def _log_shown(self, x: Tensor, fixed: Tensor | None = None) -> Tensor:
        if not self.hideable:
            return x.new_zeros(len(x), self.components)
        values, hidden = x[:, self.hideable], x[:, self.states] != 0
        # others may be anything, NaN too
        counted = torch.ones_like(hidden) if fixed is None else fixed[:, self.hideable]
        shown = (counted & ~hidden).to(self.shown_scales)
        of_hidden = torch.where(counted & hidden, values, 0.0).square().sum(1) + math.log(2 * math.pi) * counted.to(
            values
        ).sum(1)
        twice = torch.addmm(of_hidden.unsqueeze(1), shown, self.shown_scales.log().T, beta=1, alpha=2)
        # (v - m) / s as v / s - m / s, 0 where hidden; a column at a time: products with so few terms are slow as matrices
        inverse, values = 1 / self.shown_scales, torch.where(shown > 0, values, 0.0)
        for v, of_row, scale, mean in zip(values.T, shown.T, inverse.T, self.shown_means.T, strict=True):
            z = torch.addcmul(of_row.unsqueeze(1) * (-mean * scale), v.unsqueeze(1), scale)
            twice = torch.addcmul(twice, z, z)
        return -0.5 * twice

    def _log_codes(self, x: Tensor, fixed: Tensor | None = None) -> Tensor:
        if not self.codes:
            return x.new_zeros(len(x), self.components)
        codes = x[:, self.codes].long() if fixed is None else torch.where(fixed, x, 0.0)[:, self.codes].long()
        places = codes + torch.tensor(self.starts, device=x.device)
        weights = None if fixed is None else fixed[:, self.codes].to(self.log_shares)
        values: Tensor = functional.embedding_bag(places, self.log_shares, mode="sum", per_sample_weights=weights)
        return values

    def _log_marginal(self, x: Tensor, known: Tensor, covariances: Tensor) -> Tensor:
        """Of the numbers ``(B, P)`` that are known, ``(P,)``, in every component, ``(B, K)``."""
        factors = torch.linalg.cholesky(covariances[:, known][:, :, known])
        whiten, whitened_means = whitening(factors, self.means[:, known])
        distances = whitened_distances(x[:, known], whiten.to(x), whitened_means.to(x))
        log_det = factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        constant = 0.5 * int(known.sum()) * math.log(2 * math.pi)
        values: Tensor = -0.5 * distances - (log_det + constant).unsqueeze(1)
        return values.T

    def _gain(self, known: Tensor, covariances: Tensor) -> Tensor:
        """What a known number that is off adds to all, in every component, ``(K, F, P)`` with F known ones."""
        gain: Tensor = torch.linalg.solve(covariances[:, known][:, :, known], covariances[:, known])
        return gain

    def _by_shape(self, matrices: Tensor, component: Tensor, vectors: Tensor) -> Tensor:
        """Vectors ``(n, I)`` times their component's matrix, ``(K, I, J)`` or one for all, ``(n, J)``."""
        if self.shared_shape:
            return vectors @ matrices[0]
        return torch.einsum("ni,nij->nj", vectors, matrices[component])

    def _sample_of(self, component: Tensor, generator: torch.Generator | None) -> Tensor:
        at_once = max(1, _MOST_ENTRIES // max(1, len(self.normal) ** 2))
        if len(component) > at_once:  # a matrix for every draw
            return torch.cat([self._sample_of(part, generator) for part in component.split(at_once)])
        n = len(component)
        x = self.means.new_zeros(n, self.dim)
        if self.normal:
            noise = self._normal(n, len(self.normal), like=self.means, generator=generator)
            x[:, self.normal] = self.means[component] + self._by_shape(self.factors.mT, component, noise)
        for place, start, size in zip(self.codes, self.starts, self.drawn, strict=True):
            x[:, place] = _code_of(self.log_shares[start : start + size].T, component, generator).to(x)
        if self.hideable:
            noise = self._normal(n, len(self.hideable), like=self.means, generator=generator)
            shown = self.shown_means[component] + self.shown_scales[component] * noise
            x[:, self.hideable] = torch.where(x[:, self.states] != 0, noise, shown)
        return x


def _categorical(logits: Tensor, generator: torch.Generator | None, draws: int = 1) -> Tensor:
    """Draws from every row's softmax, ``(B, S) -> (B, draws)``."""
    shares = logits.double().softmax(1).cumsum(1)
    u = torch.rand(len(logits), draws, dtype=torch.float64, device=logits.device, generator=generator)
    return torch.searchsorted(shares, u * shares[:, -1:], right=True).clamp_max(logits.shape[1] - 1)


def _code_of(logits: Tensor, component: Tensor, generator: torch.Generator | None) -> Tensor:
    """One draw from the softmax of every component's row of ``(K, S)``, ``(n,)``.

    All components' shares are summed up one after the other, each above its number, and one search finds a draw's place: no
    row of shares is copied for it.
    """
    shares = logits.double().softmax(1).cumsum(1)
    numbers = torch.arange(len(logits), dtype=torch.float64, device=logits.device)
    steps = (shares / shares[:, -1:] + numbers.unsqueeze(1)).flatten()
    u = torch.rand(len(component), dtype=torch.float64, device=logits.device, generator=generator)
    found = torch.searchsorted(steps, u + component, right=True) - component * logits.shape[1]
    return found.clamp(0, logits.shape[1] - 1)
