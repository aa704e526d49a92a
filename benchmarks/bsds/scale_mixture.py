"""Mixtures of Gaussian scale mixtures, fitted by stepwise expectation maximisation.

Patches of one texture differ in contrast: normals of one shape and many sizes. Theis, Hosseini, Bethge, "Mixtures of
Conditional Gaussian Scale Mixtures Applied to Multiscale Image Representations", PLoS ONE 7(7), 2012, arXiv 1109.4389. The
steps on batches: Cappe and Moulines, "On-line Expectation-Maximization Algorithm for Latent Data Models", JRSS B 71(3), 2009,
arXiv 0712.4273.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

_ROWS_AT_A_TIME = 4096
_LEAST_WEIGHT = 1e-8


class Reading(NamedTuple):
    """What a mixture knows of rows.

    Args:
        log_prob: ``(B,)``.
        shares: each shape's of the density, ``(B, K)``.
        residual: the row whitened by its shapes and sizes, averaged by their shares, ``(B, dim)``: normal noise, if the
            mixture is right and knows the shape.
    """

    log_prob: Tensor
    shares: Tensor
    residual: Tensor


class ScaleMixture(nn.Module):
    r""":math:`p(x) = \sum_{kj} \pi_{kj} N(x; \mu_k, s_{kj}^2 \Sigma_k)`: K shapes, each in J sizes, for K quadratic forms.

    One size makes it a mixture of normals.

    Args:
        means: ``(K, dim)``.
        covariances: ``(K, dim, dim)``.
        weights: ``(K, J)``, positive, of sum one.
        sizes: ``(K, J)``, positive standard deviations.
    """

    normalised = True

    means: Tensor
    weights: Tensor
    sizes: Tensor
    factor: Tensor
    whiten: Tensor
    whitened_means: Tensor
    offsets: Tensor

    def __init__(self, means: Tensor, covariances: Tensor, weights: Tensor, sizes: Tensor) -> None:
        super().__init__()
        dim = means.shape[1]
        values, axes = torch.linalg.eigh(covariances.double())
        values = values.clamp_min(1e-12 * values.amax(1, keepdim=True))
        # symmetric roots: residuals of unlike shapes are in like coordinates, so that one network can read them
        whiten = (axes / values.sqrt().unsqueeze(1)) @ axes.transpose(1, 2)
        log_norm = 0.5 * dim * math.log(2 * math.pi) + 0.5 * values.log().sum(-1)
        self.dim, self.shapes = dim, len(means)
        for name, value in {
            "means": means,
            "weights": weights,
            "sizes": sizes,
            "factor": (axes * values.sqrt().unsqueeze(1)) @ axes.transpose(1, 2),
            "whiten": whiten.permute(1, 0, 2).flatten(1).contiguous(),
            "whitened_means": (means.double().unsqueeze(1) @ whiten).flatten(),
            "offsets": weights.double().log() - log_norm.unsqueeze(1) - dim * sizes.double().log(),
        }.items():
            self.register_buffer(name, value.float())

    def whitened(self, x: Tensor) -> Tensor:
        """By every shape at size one, ``(B, dim) -> (B, K, dim)``."""
        return torch.addmm(-self.whitened_means, x, self.whiten).view(len(x), -1, self.dim)

    def log_joint(self, distances: Tensor) -> Tensor:
        """Log-density with the shape and the size from squared distances ``(B, K)``, ``(B, K, J)``."""
        return self.offsets - 0.5 * distances.unsqueeze(-1) / self.sizes.square()

    def read(self, x: Tensor) -> Reading:
        """See :class:`Reading`."""
        return Reading(*(torch.cat(found) for found in zip(*map(self._read, x.split(_ROWS_AT_A_TIME)), strict=True)))

    def _read(self, x: Tensor) -> Reading:
        whitened = self.whitened(x)
        joint = self.log_joint(whitened.square().sum(-1))
        log_prob = joint.flatten(1).logsumexp(1)
        shares = (joint - log_prob.view(-1, 1, 1)).exp()
        residual = ((shares / self.sizes).sum(-1).unsqueeze(1) @ whitened).squeeze(1)
        return Reading(log_prob, shares.sum(-1), residual)

    def log_prob(self, x: Tensor, /) -> Tensor:
        """Log-density in nats, ``(B, dim) -> (B,)``."""
        return torch.cat([self._log_prob(part) for part in x.split(_ROWS_AT_A_TIME)])

    def _log_prob(self, x: Tensor) -> Tensor:
        return self.log_joint(self.whitened(x).square().sum(-1)).flatten(1).logsumexp(1)

    def forward(self, x: Tensor) -> Tensor:
        """Energy in nats, ``(B, dim) -> (B,)``."""
        return -self.log_prob(x)

    @torch.no_grad()
    def sample(self, n: int, /, *, generator: torch.Generator | None = None) -> Tensor:
        """``n`` independent draws, ``(n, dim)``."""
        sizes = self.sizes.shape[1]
        shares = self.weights.double().flatten().cumsum(0)
        u = torch.rand(n, generator=generator, dtype=torch.float64) * shares[-1]
        which = torch.searchsorted(shares, u, right=True).clamp_max(len(shares) - 1)
        shape, size = which // sizes, self.sizes.flatten()[which]
        noise = torch.randn(n, self.dim, generator=generator) * size.unsqueeze(1)
        draws = torch.empty(n, self.dim)
        for k in shape.unique().tolist():  # gathering an (n, dim, dim) array would take gigabytes
            mine = shape == k
            draws[mine] = self.means[k] + noise[mine] @ self.factor[k]
        return draws


@dataclass(frozen=True, kw_only=True)
class EMSettings:
    """Stepwise expectation maximisation.

    Args:
        shapes, sizes: K and J.
        steps, batch: batches seen, and their rows.
        shrinkage: pseudo-rows of the mean covariance that each shape is given, as a share of the rows of an even split.
    """

    shapes: int
    sizes: int = 1
    steps: int = 300
    batch: int = 8192
    shrinkage: float = 0.02
    seed: int = 0


def fit_scale_mixture(x: Tensor, settings: EMSettings) -> ScaleMixture:
    """Maximum likelihood with a little shrinkage, in float32 with float64 statistics."""
    generator = torch.Generator().manual_seed(settings.seed)
    K, J, dim = settings.shapes, settings.sizes, x.shape[1]
    norms = x.norm(dim=1)
    # shapes start at the scatter of rows whose directions are near to a random row's, sizes at quantiles of the contrast
    pilot = x[torch.randperm(len(x), generator=generator)[: max(200 * K, 4000)]]
    directions = pilot / pilot.norm(dim=1, keepdim=True)
    centres = directions[torch.randperm(len(pilot), generator=generator)[:K]]
    nearest = (directions @ centres.T).abs().argmax(1)
    even = torch.eye(dim, dtype=torch.float64) / dim
    covariances = torch.stack([_scatter(directions[nearest == k], even) for k in range(K)])
    levels = (torch.arange(J) + 0.5) / J
    sizes = norms[torch.randperm(len(x), generator=generator)[:10000]].quantile(levels).expand(K, J).clone()
    if J == 1:
        covariances, sizes = covariances * sizes[0].double().square(), torch.ones(K, 1)
    mixture = ScaleMixture(torch.zeros(K, dim), covariances, torch.full((K, J), 1 / (K * J)), sizes)
    statistics: _Statistics | None = None
    upper = torch.triu_indices(dim, dim)
    order, place = torch.randperm(len(x), generator=generator), 0
    batch = min(settings.batch, len(x))
    for step in range(settings.steps):
        if place + batch > len(x):
            order, place = torch.randperm(len(x), generator=generator), 0
        rows, place = x[order[place : place + batch]], place + batch
        new = _expected(mixture, rows, upper)
        if statistics is not None:
            rate = (step + 2.0) ** -0.6
            new = _Statistics(*(old + rate * (now - old) for old, now in zip(statistics, new, strict=True)))
        statistics = new
        mixture = _maximised(statistics, mixture, upper, settings.shrinkage)
    return mixture


class _Statistics(NamedTuple):
    """Means over rows, float64.

    Args:
        shares: of shapes and sizes, ``(K, J)``.
        scaled: shares over squared sizes, summed over sizes, ``(K,)``.
        first, second: of the rows and of their products (upper triangle), weighted so.
        distances: squared, weighted by the shares, ``(K, J)``.
    """

    shares: Tensor
    scaled: Tensor
    first: Tensor
    second: Tensor
    distances: Tensor


def _expected(mixture: ScaleMixture, rows: Tensor, upper: Tensor) -> _Statistics:
    distances = mixture.whitened(rows).square().sum(-1)
    shares = torch.softmax(mixture.log_joint(distances).flatten(1), 1).view(len(rows), *mixture.sizes.shape)
    scaled = (shares / mixture.sizes.square()).sum(-1)  # (B, K)
    sums = (
        shares.sum(0),
        scaled.sum(0),
        scaled.T @ rows,
        scaled.T @ (rows[:, upper[0]] * rows[:, upper[1]]),
        torch.einsum("bkj,bk->kj", shares, distances),
    )
    return _Statistics(*(total.double() / len(rows) for total in sums))


def _scatter(directions: Tensor, even: Tensor) -> Tensor:
    rows = directions.double()
    return (rows.T @ rows + 20 * even) / (len(rows) + 20)


def _maximised(found: _Statistics, before: ScaleMixture, upper: Tensor, shrinkage: float) -> ScaleMixture:
    K, J = found.shares.shape
    dim = before.dim
    mass = found.shares.sum(1).view(K, 1, 1)
    means = found.first / found.scaled.clamp_min(1e-30).unsqueeze(1)
    scatter = torch.zeros(K, dim, dim, dtype=torch.float64)
    scatter[:, upper[0], upper[1]] = found.second
    scatter = scatter + scatter.triu(1).transpose(1, 2)
    scatter = scatter - found.scaled.view(K, 1, 1) * means.unsqueeze(2) * means.unsqueeze(1)
    # shapes have sizes of their own, so what they are shrunk to is the common shape at their own size
    trace = (scatter / (mass + 1e-12)).diagonal(dim1=1, dim2=2).sum(1).clamp_min(1e-12).view(K, 1, 1)
    common = (scatter / trace).sum(0)
    common = common / common.trace()
    pseudo = shrinkage / K
    covariances = (scatter + pseudo * trace * common) / (mass + pseudo)
    weights = found.shares.clamp_min(_LEAST_WEIGHT)
    if J == 1:
        sizes = torch.ones_like(weights)
    else:
        # from distances under the shape before: one step of a generalised EM
        sizes = (found.distances / (dim * found.shares.clamp_min(1e-12))).sqrt().clamp_min(1e-4)
        sizes = torch.where(found.shares > 1e-6, sizes, before.sizes.double())
    return ScaleMixture(means, covariances, weights / weights.sum(), sizes)
