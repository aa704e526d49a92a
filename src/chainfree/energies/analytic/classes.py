"""Normal classes with one covariance: the generative form of linear discriminant analysis."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...checks import (
    require_finite,
    require_floats,
    require_in_unit_interval,
    require_positive_int,
    require_rows,
    require_symmetric,
)
from .base import AnalyticEnergy

__all__ = ["GaussianClasses"]


class GaussianClasses(AnalyticEnergy):
    r""":math:`p(x, y) = \pi_y N(x; \mu_y, \Sigma)`; as an energy of rows, their marginal density, so log Z = 0.

    Args:
        means: ``(K, dim)``.
        covariance: ``(dim, dim)``, positive definite.
        weights: :math:`\pi`, ``(K,)``, positive; scaled to sum to one.

    Raises:
        ValueError: shapes that do not fit, weights that are not positive, a covariance that is not positive definite.
    """

    def __init__(self, means: Tensor, covariance: Tensor, weights: Tensor) -> None:
        if means.dim() != 2 or not means.is_floating_point():
            raise ValueError(f"means must be floats of shape (K, dim), got {means.dtype} of shape {tuple(means.shape)}")
        classes, dim = means.shape
        if covariance.shape != (dim, dim):
            raise ValueError(f"covariance must be ({dim}, {dim}), got {tuple(covariance.shape)}")
        if weights.shape != (classes,) or not bool((weights > 0).all()):
            raise ValueError(f"weights must be {classes} positive numbers, got {weights.tolist()!r}")
        require_symmetric("covariance", covariance)
        factor, info = torch.linalg.cholesky_ex(covariance.double())
        if int(info) != 0:
            raise ValueError("covariance is not positive definite; raise the shrinkage")
        super().__init__(dim, log_z=0.0)
        whiten = torch.linalg.solve_triangular(factor, torch.eye(dim, dtype=torch.float64), upper=False)
        log_weights = weights.double().log() - weights.double().sum().log()
        centre = (log_weights.exp().unsqueeze(1) * means.double()).sum(0)  # squares around it do not cancel
        log_norm = 0.5 * dim * math.log(2 * math.pi) + float(factor.diagonal().log().sum())
        self.means: Tensor
        self.log_weights: Tensor
        self.factor: Tensor
        self.whiten: Tensor
        self.centre: Tensor
        self.whitened_means: Tensor
        self.offsets: Tensor
        whitened_means = (means.double() - centre) @ whiten.T
        for name, value in {
            "means": means,
            "log_weights": log_weights,
            "factor": factor,
            "whiten": whiten,
            "centre": centre,
            "whitened_means": whitened_means,
            "offsets": log_weights - log_norm - 0.5 * whitened_means.square().sum(1),
        }.items():
            self.register_buffer(name, value.to(means.dtype).clone())

    def log_joint(self, x: Tensor, /) -> Tensor:
        r""":math:`\log p(x, y)` in nats, ``(B, dim) -> (B, K)``."""
        require_rows(x, (self.dim,), self.means)
        u = (x - self.centre) @ self.whiten.T
        return torch.addmm(self.offsets, u, self.whitened_means.T) - 0.5 * u.square().sum(1, keepdim=True)

    def forward(self, x: Tensor) -> Tensor:
        """Energy in nats, ``(B, dim) -> (B,)``."""
        return -torch.logsumexp(self.log_joint(x), dim=1)

    def sample(self, n: int, /, *, generator: torch.Generator | None = None) -> Tensor:
        """``n`` independent draws, ``(n, dim)``."""
        classes = self._components(self.log_weights, n, generator=generator)
        return self.means[classes] + self._normal(n, self.dim, like=self.means, generator=generator) @ self.factor.T

    @classmethod
    def fit(cls, x: Tensor, y: Tensor, *, em_steps: int = 0, shrinkage: float = 0.01) -> GaussianClasses:
        r"""From rows of which some are labelled.

        The start is scikit-learn's linear discriminant of the labelled rows, with Ledoit-Wolf shrinkage. Each of the
        ``em_steps`` then weighs every unlabelled row by its :math:`p(y \mid x)` so far, and takes means, weights and the
        covariance from all rows (expectation maximisation: Dempster, Laird, Rubin, JRSS B 39, 1977). Without
        shrinkage the likelihood rises; whether the mixture's parts stay the labels' classes is another matter, so choose
        ``em_steps`` by validation rows.

        Args:
            x: ``(N, dim)``.
            y: classes from 0 to K - 1 as whole numbers, -1 where unlabelled, ``(N,)``; every class at least once.
            em_steps: at least 0.
            shrinkage: share of the mean variance's multiple of the identity in the covariance of these steps, in [0, 1).

        Raises:
            ValueError: labels that are no such numbers, a class without a label, a setting out of its range.
        """
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

        if em_steps != 0:
            require_positive_int("em_steps", em_steps)
        require_floats(x, "a covariance")
        require_in_unit_interval("shrinkage", shrinkage)
        labelled = _labelled(x, y)
        rows, known = x.detach().cpu().double(), y.detach().cpu()
        start = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
        start.fit(rows[labelled].numpy(), known[labelled].numpy())
        fitted = cls(*(torch.from_numpy(a) for a in (start.means_, start.covariance_, start.priors_)))
        certain = torch.nn.functional.one_hot(known[labelled], len(fitted.means)).double()
        for _ in range(em_steps):
            shares = torch.softmax(fitted.log_joint(rows), dim=1)
            shares[labelled] = certain
            fitted = _maximised(rows, shares, shrinkage)
        return fitted.to(x.device, x.dtype)


def _labelled(x: Tensor, y: Tensor) -> Tensor:
    """Indices of the rows with a label."""
    if x.dim() != 2:
        raise ValueError(f"x must be rows (N, dim), got shape {tuple(x.shape)}")
    if y.shape != x.shape[:1] or y.is_floating_point() or not len(y):
        raise ValueError(f"y must be whole numbers of shape ({len(x)},), got {y.dtype} of shape {tuple(y.shape)}")
    if not bool((y >= 0).any()):
        raise ValueError("no row has a label: all of y is below 0; label a row of each class at least")
    seen = torch.unique(y[y >= 0]).cpu()
    if int(y.min()) < -1 or len(seen) < 2 or not torch.equal(seen, torch.arange(len(seen))):
        raise ValueError(
            f"labels must be classes 0, 1, ..., each at least once and at least two, or -1 for none; got "
            f"{sorted({int(value) for value in y})[:10]}"
        )
    if int((y >= 0).sum()) <= len(seen):
        raise ValueError("a covariance within classes needs more labelled rows than classes; label one more")
    require_finite("x", x)
    return torch.nonzero(y.cpu() >= 0).squeeze(1)


def _maximised(x: Tensor, shares: Tensor, shrinkage: float) -> GaussianClasses:
    counts = shares.sum(0)
    means = (shares.T @ x) / counts.unsqueeze(1)
    centred = x - x.mean(0)
    between = means - x.mean(0)
    within = (centred.T @ centred - (between.T * counts) @ between) / len(x)
    mean_variance = within.diagonal().mean()
    covariance = (1 - shrinkage) * within + shrinkage * mean_variance * torch.eye(x.shape[1], dtype=x.dtype)
    return GaussianClasses(means, 0.5 * (covariance + covariance.T), counts)
