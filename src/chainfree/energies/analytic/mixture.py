"""Mixture of Gaussians, isotropic or with full covariances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...checks import require_rows, require_symmetric
from .base import AnalyticEnergy

__all__ = ["GaussianMixture", "whitened_distances", "whitening"]


def whitening(factors: Tensor, means: Tensor) -> tuple[Tensor, Tensor]:
    """What :func:`whitened_distances` takes, in float64.

    Args:
        factors: lower triangular, of the covariances, ``(K, dim, dim)``.
        means: ``(K, dim)``.

    Returns:
        ``(dim, K, dim)`` and ``(dim, K, 1)``, whitened feature first: one matrix product whitens all rows by every component,
        and with the rows last the sums over features and components run along memory, several times faster than across it.
    """
    factors = factors.double()
    eye = torch.eye(factors.shape[-1], dtype=torch.float64, device=factors.device)
    whiten = torch.linalg.solve_triangular(factors, eye.expand_as(factors), upper=False)
    whitened_means = whiten @ means.double().unsqueeze(-1)
    return whiten.transpose(0, 1).contiguous(), whitened_means.transpose(0, 1).contiguous()


def whitened_distances(x: Tensor, whiten: Tensor, whitened_means: Tensor) -> Tensor:
    """Squared Mahalanobis distances of rows ``(B, dim)`` from every component, ``(K, B)``.

    ``whiten`` may be one for all components, ``(dim, 1, dim)``.
    """
    if whiten.shape[1] < whitened_means.shape[1]:
        rows, means = whiten.squeeze(1) @ x.T, whitened_means.squeeze(2)
        squares = means.square().sum(0).unsqueeze(1) + rows.square().sum(0)
        return torch.addmm(squares, means.T, rows, alpha=-2).clamp_min(0)
    # the means enter as the product's bias: the (dim, K, B) array is written once less
    whitened = torch.addmm(-whitened_means.flatten(0, 1), whiten.flatten(0, 1), x.T)
    return whitened.view(*whitened_means.shape[:2], len(x)).square().sum(dim=0)


class GaussianMixture(AnalyticEnergy):
    r""":math:`E(x) = -\log \sum_k \pi_k N(x; \mu_k, \Sigma_k)`, normalised, so log Z = 0.

    Args:
        means: ``(K, dim)``.
        covariance: one variance for all (a number), one matrix for all ``(dim, dim)``, or ``(K, dim, dim)``.
        weights: ``(K,)``, positive; scaled to sum to one; equal by default.

    Raises:
        ValueError: shapes that do not fit, weights or covariances that are not positive.

    >>> mixture = GaussianMixture(torch.tensor([[-1.0], [1.0]]), 0.1, weights=[0.2, 0.8])
    >>> mixture(torch.zeros(5, 1)).shape
    torch.Size([5])
    """

    def __init__(
        self,
        means: Tensor,
        covariance: float | Tensor = 1.0,
        weights: Tensor | Sequence[float] | None = None,
    ) -> None:
        if means.dim() != 2:
            raise ValueError(f"means must be (K, dim), got {tuple(means.shape)}")
        means = means if means.is_floating_point() else means.to(torch.get_default_dtype())
        components, dim = means.shape
        weights = torch.ones(components) if weights is None else torch.as_tensor(weights)
        if weights.shape != (components,) or not bool((weights > 0).all()):
            raise ValueError(f"weights must be {components} positive numbers, got {weights.tolist()!r}")
        eye = torch.eye(dim, dtype=torch.float64)
        full = eye * covariance if isinstance(covariance, float | int) else covariance.double()
        if full.shape not in ((dim, dim), (components, dim, dim)):
            raise ValueError(
                f"covariance must be a number, ({dim}, {dim}) or ({components}, {dim}, {dim}), got {tuple(full.shape)}"
            )
        require_symmetric("covariance", full)
        factor, info = torch.linalg.cholesky_ex(full.expand(components, dim, dim))
        if bool((info != 0).any()):
            raise ValueError("a covariance is not positive definite; add a small multiple of the identity")
        super().__init__(dim, log_z=0.0)
        log_weights = weights.double().log() - weights.double().sum().log()
        log_norm = 0.5 * dim * math.log(2 * math.pi) + factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        whiten, whitened_means = whitening(factor, means)
        self.means: Tensor
        self.log_weights: Tensor
        self.offsets: Tensor
        self.factor: Tensor
        self.whiten: Tensor
        self.whitened_means: Tensor
        self.register_buffer("means", means.clone())
        self.register_buffer("log_weights", log_weights.to(means.dtype))
        self.register_buffer("offsets", (log_weights - log_norm).to(means.dtype))
        self.register_buffer("factor", factor.to(means.dtype))
        self.register_buffer("whiten", whiten.to(means.dtype))
        self.register_buffer("whitened_means", whitened_means.to(means.dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Energy in nats, ``(B, dim) -> (B,)``."""
        require_rows(x, (self.dim,), self.means)
        distance = whitened_distances(x, self.whiten, self.whitened_means)
        return -torch.logsumexp(torch.add(self.offsets.unsqueeze(-1), distance, alpha=-0.5), dim=0)

    def sample(self, n: int, /, *, generator: torch.Generator | None = None) -> Tensor:
        """``n`` independent draws, ``(n, dim)``."""
        component = self._components(self.log_weights, n, generator=generator)
        noise = self._normal(n, self.dim, like=self.means, generator=generator)
        return self.means[component] + torch.einsum("nij,nj->ni", self.factor[component], noise)

    @classmethod
    def from_sklearn(cls, fitted: Any, *, dtype: torch.dtype = torch.float32) -> GaussianMixture:
        """The same density as a fitted ``sklearn.mixture.GaussianMixture`` of any covariance type.

        Raises:
            ValueError: the mixture is not fitted.
        """
        if not hasattr(fitted, "means_"):
            raise ValueError("the scikit-learn mixture is not fitted; call its fit(X) first")
        means = torch.from_numpy(fitted.means_)
        components, dim = means.shape
        given = torch.from_numpy(fitted.covariances_)
        eye = torch.eye(dim, dtype=given.dtype)
        covariance = {
            "full": lambda: given,
            "tied": lambda: given.expand(components, dim, dim),
            "diag": lambda: torch.diag_embed(given),
            "spherical": lambda: given.view(-1, 1, 1) * eye,
        }[fitted.covariance_type]()
        mixture = cls(means, covariance, torch.from_numpy(fitted.weights_))
        return mixture.to(dtype)
