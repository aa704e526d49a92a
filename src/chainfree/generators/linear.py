"""Linear generators, whose density, score and entropy are known: the test bed of every estimator."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..energies.layers import full_precision
from .base import LatentGenerator

__all__ = ["LinearGenerator"]


class LinearGenerator(LatentGenerator):
    r""":math:`x = Wz + b + \sigma\varepsilon`, so :math:`q = N(b, WW^\top + \sigma^2 I)`: probabilistic PCA.

    Tipping and Bishop, "Probabilistic Principal Component Analysis", 1999.

    Args:
        weight: W, ``(D, K)``.
        bias: b, ``(D,)``; zero by default.
        sigma, sigma_bounds: see :class:`LatentGenerator`.

    >>> LinearGenerator(torch.eye(3)[:, :2]).sample(5).x.shape
    torch.Size([5, 3])
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        *,
        sigma: float = 0.1,
        sigma_bounds: tuple[float, float] = (0.01, 0.3),
    ) -> None:
        if weight.dim() != 2 or not weight.is_floating_point():
            raise ValueError(f"weight must be a (D, K) matrix of floats, got {weight.dtype} of {tuple(weight.shape)}")
        super().__init__(weight.shape[1], (weight.shape[0],), sigma=sigma, sigma_bounds=sigma_bounds)
        self.weight = nn.Parameter(weight.clone())
        self.bias = nn.Parameter(weight.new_zeros(len(weight)) if bias is None else bias.clone())
        self.log_sigma.data = weight.new_tensor(math.log(sigma))

    @classmethod
    def pca(cls, x: Tensor, components: int, *, sigma: float | None = None) -> LinearGenerator:
        """The maximum-likelihood generator of rows ``(N, D)`` with that many latents, by an eigendecomposition.

        Args:
            x: rows.
            components: K, below D.
            sigma: the noise scale, in place of its maximum-likelihood value.

        Raises:
            ValueError: as many components as features, or more.
        """
        if not 0 < components < x.shape[1]:
            raise ValueError(f"components must be from 1 to {x.shape[1] - 1}, got {components!r}")
        centre = x.mean(0)
        values, vectors = torch.linalg.eigh(torch.cov(x.T, correction=0))
        rest = float(values[:-components].clamp_min(0).mean().sqrt())
        scale = max(rest, 1e-6) if sigma is None else sigma
        stretch = (values[-components:] - scale**2).clamp_min(0).sqrt()
        bounds = min(0.01, scale), max(0.3, scale)
        return cls(vectors[:, -components:] * stretch, centre, sigma=scale, sigma_bounds=bounds)

    def forward(self, z: Tensor) -> Tensor:
        """The mean, ``(B, K) -> (B, D)``."""
        mean: Tensor = z @ self.weight.T + self.bias
        return mean

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density in nats, ``(B, D) -> (B,)``, by Woodbury's identity: nothing of size D x D is made."""
        gram = self._gram()
        centred = x - self.bias
        projected = centred @ self.weight / self.sigma.square()
        explained = (projected @ torch.linalg.inv(gram) * projected).sum(-1)
        squares = (centred / self.sigma).square().sum(-1) - explained
        normaliser: Tensor = torch.logdet(gram)
        log_density: Tensor = -0.5 * (squares + normaliser + self.dim * (2 * self.log_sigma + math.log(2 * math.pi)))
        return log_density

    def entropy(self) -> Tensor:
        r"""Differential entropy in nats: :math:`\tfrac12\log\det 2\pi e (WW^\top + \sigma^2 I)`."""
        return 0.5 * torch.logdet(self._gram()) + self.dim * (self.log_sigma + 0.5 * math.log(2 * math.pi * math.e))

    def _gram(self) -> Tensor:
        r""":math:`I + W^\top W/\sigma^2`, the posterior's precision."""
        eye = torch.eye(self.latent_dim, dtype=self.weight.dtype, device=self.weight.device)
        with full_precision(self.weight):
            gram: Tensor = eye + self.weight.T @ self.weight / self.sigma.square()
        return gram

    def posterior_mean(self, x: Tensor) -> Tensor:
        """The mean of z given x, ``(B, D) -> (B, K)``."""
        projected = (x - self.bias) @ self.weight / self.sigma.square()
        mean: Tensor = torch.linalg.solve(self._gram(), projected.T).T
        return mean
