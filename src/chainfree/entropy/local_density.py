r"""A generator's density at its own samples, with the posterior around the generating latent taken as Gaussian.

:math:`\log q(x) = \log q(x, z) - \log q(z \mid x)` at every z. At the latent :math:`z_0` that made x, with g linear there,

.. math::
    q(z \mid x) \approx N\bigl(z_0 + A^{-1}b,\; A^{-1}\bigr), \qquad
    A = I + J^\top J/\sigma^2, \quad b = J^\top\varepsilon/\sigma - z_0 .

Exact for linear generators of any size. Where g bends within the posterior's width it errs in either direction, by the first
order of sigma at a single sample; and it does not see another sheet of the generator at the same x, which makes q larger
than it says.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..energies.layers import full_precision
from ..generators.base import Draw, LatentGenerator, log_prior

__all__ = ["local_log_prob"]


@torch.no_grad()
def local_log_prob(net: LatentGenerator, draw: Draw) -> Tensor:
    """log q at a draw of ``net``, without a graph.

    Args:
        net: the generator; as many forward derivatives are taken as it has latents, and a factorisation for every row.
        draw: of it.

    Returns:
        Nats, ``(B,)``.
    """
    z, constants = draw.z, draw.constants

    def mean(at: Tensor) -> Tensor:
        return net.decode(at, constants).flatten(1)

    def slope(direction: Tensor) -> Tensor:
        along: Tensor = torch.func.jvp(mean, (z,), (direction.expand_as(z),))[1]
        return along

    sigma = net.sigma.detach()
    with full_precision(z):
        basis = torch.eye(net.latent_dim, dtype=z.dtype, device=z.device)
        slopes = torch.func.vmap(slope)(basis).permute(1, 2, 0) / sigma  # (B, D, K)
        factor = torch.linalg.cholesky(basis + slopes.mT @ slopes)
        pull = (slopes.mT @ draw.noise.flatten(1).unsqueeze(2)).squeeze(2) - z
        # b' A^-1 b by one triangular solve
        moved = torch.linalg.solve_triangular(factor, pull.unsqueeze(2), upper=False).square().sum((1, 2))
    half_log_det = factor.diagonal(dim1=1, dim2=2).log().sum(1)
    posterior: Tensor = half_log_det - 0.5 * net.latent_dim * math.log(2 * math.pi) - 0.5 * moved
    log_joint: Tensor = log_prior(z) + net.log_likelihood(draw.x, draw.mean).detach()
    return log_joint - posterior
