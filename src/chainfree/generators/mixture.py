"""A generator that moves the draws of a mixture of normals."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from ..energies.layers import Activation
from .base import LatentGenerator
from .mlp import MLPGenerator, start_near_zero_

__all__ = ["MixtureGenerator"]

_START = 0.01  # of the last layer's first weights


class MixtureGenerator(LatentGenerator):
    r""":math:`g(k, z) = T(\mu_k + L_k z)` with :math:`T(x) = x + h(x)`, k by its weight, h that starts near zero.

    For an energy with parts that lie apart, tilted from a mixture that knows them: a smooth map of one normal would lay draws
    between the parts, and what is between them is no data. The first latent, standard normal like the others, chooses the
    component and nothing else.

    The entropy of the draws, but for their noise, is the mixture's, which does not change, and the mean of
    :math:`\log\lvert\det \partial T\rvert`, whether components overlap or not, as long as T does not fold. Its gradient is
    :class:`chainfree.entropy.LocalVolume`'s.

    Args:
        weights: of the components, positive, ``(K,)``; scaled to sum to one.
        means: ``(K, D)``.
        factors: L, lower triangular, of covariances :math:`L L^T`, ``(K, D, D)``, or one for all, ``(1, D, D)``.
        width, depth, activation: of h, as in :class:`MLPGenerator`.
        sigma, sigma_bounds: see :class:`LatentGenerator`; small beside the narrowest component.

    Raises:
        ValueError: shapes that do not fit, or weights that are not positive.

    >>> pair = torch.tensor([[-4.0], [4.0]])
    >>> net = MixtureGenerator(torch.tensor([1.0, 3.0]), pair, torch.full((1, 1, 1), 0.1))
    >>> net.latent_dim, net.sample(5).x.shape
    (2, torch.Size([5, 1]))
    """

    choosing: ClassVar[int] = 1
    shares: Tensor
    means: Tensor
    factors: Tensor

    def __init__(
        self,
        weights: Tensor,
        means: Tensor,
        factors: Tensor,
        *,
        width: int = 128,
        depth: int = 3,
        activation: Activation = "silu",
        sigma: float = 0.02,
        sigma_bounds: tuple[float, float] = (0.01, 0.3),
    ) -> None:
        if means.dim() != 2 or weights.shape != means.shape[:1]:
            raise ValueError(
                f"weights and means must be (K,) and (K, D), got {tuple(weights.shape)} and {tuple(means.shape)}"
            )
        components, dim = means.shape
        if factors.shape not in ((components, dim, dim), (1, dim, dim)):
            raise ValueError(
                f"factors must be ({components}, {dim}, {dim}) or (1, {dim}, {dim}), got {tuple(factors.shape)}"
            )
        if not bool((weights > 0).all()):
            raise ValueError(f"weights must be positive, got {weights.tolist()!r}")
        super().__init__(dim + 1, (dim,), sigma=sigma, sigma_bounds=sigma_bounds)
        # the upper end of each component's share but the last one's
        self.register_buffer("shares", (weights.double().cumsum(0) / weights.double().sum())[:-1].float())
        self.register_buffer("means", means.detach().clone().float())
        self.register_buffer("factors", factors.detach().clone().float())
        self.perceptron = MLPGenerator(dim, dim, width=width, depth=depth, activation=activation).layers
        start_near_zero_(self.perceptron, _START)

    def forward(self, z: Tensor) -> Tensor:
        """The mean, ``(B, D + 1) -> (B, D)``."""
        component = torch.bucketize(torch.special.ndtr(z[:, 0].detach()), self.shares)
        factors = self.factors.expand(len(self.means), -1, -1)[component]
        start = self.means[component] + torch.einsum("bij,bj->bi", factors, z[:, 1:])
        mean: Tensor = start + self.perceptron(start)
        return mean
