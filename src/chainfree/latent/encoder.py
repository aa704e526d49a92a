"""Amortised posteriors: a network that says of each row what its latents are likely to be."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..checks import ContractError, require_positive_int

__all__ = ["Encoded", "GaussianEncoder"]

_LOG_SCALES = -7.0, 4.0  # beyond these a scale is a number out of hand


class Encoded(NamedTuple):
    """What :meth:`GaussianEncoder.sample` returns, with the encoder's graph.

    Args:
        z: draws for each row, ``(draws, B, latent_dim)``.
        log_prob: of each under the encoder, in nats, ``(draws, B)``.
    """

    z: Tensor
    log_prob: Tensor


class GaussianEncoder(nn.Module):
    r""":math:`q(z \mid x) = N(\mu(x), \operatorname{diag} s(x)^2)`.

    Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, arXiv 1312.6114.

    Args:
        network: from rows ``(B, *event)`` to :math:`(\mu, \log s)` side by side, ``(B, 2 * latent_dim)``: any of
            :mod:`chainfree.energies` with ``outputs=2 * latent_dim``.
        latent_dim: features of z.

    >>> from chainfree.energies import MLP
    >>> encoder = GaussianEncoder(MLP(5, outputs=4), latent_dim=2)
    >>> encoder.sample(torch.zeros(3, 5), draws=7).z.shape
    torch.Size([7, 3, 2])
    """

    def __init__(self, network: nn.Module, latent_dim: int) -> None:
        super().__init__()
        require_positive_int("latent_dim", latent_dim)
        self.network = network
        self.latent_dim = latent_dim

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-scale of every row's latents, ``(B, latent_dim)`` each.

        Raises:
            ContractError: the network returns another shape.
        """
        found = self.network(x)
        if found.shape != (len(x), 2 * self.latent_dim):
            raise ContractError(
                f"the encoder's network returned shape {tuple(found.shape)} for {len(x)} rows; return "
                f"{(len(x), 2 * self.latent_dim)}: means and logarithms of scales"
            )
        if found.dtype in (torch.float16, torch.bfloat16):
            found = found.float()
        mean, log_scale = found.chunk(2, 1)
        return mean, log_scale.clamp(*_LOG_SCALES)

    def sample(self, x: Tensor, *, draws: int = 1, generator: torch.Generator | None = None) -> Encoded:
        """Draws of every row's latents, differentiable in the encoder.

        Args:
            x: rows, ``(B, *event)``.
            draws: of each.
            generator: source of randomness on the device of the rows.
        """
        require_positive_int("draws", draws)
        mean, log_scale = self(x)
        noise = torch.randn(draws, *mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        z = mean + log_scale.exp() * noise
        log_prob = -(0.5 * noise.square() + log_scale + 0.5 * math.log(2 * math.pi)).sum(2)
        return Encoded(z, log_prob)

    def log_prob(self, z: Tensor, x: Tensor) -> Tensor:
        """Log-density in nats of latents ``(B, latent_dim)`` given their rows, ``(B,)``."""
        mean, log_scale = self(x)
        terms: Tensor = 0.5 * ((z - mean) / log_scale.exp()).square() + log_scale + 0.5 * math.log(2 * math.pi)
        return -terms.sum(1)

    def entropy(self, x: Tensor) -> Tensor:
        """In nats, ``(B,)``."""
        _, log_scale = self(x)
        entropy: Tensor = log_scale.sum(1) + 0.5 * self.latent_dim * math.log(2 * math.pi * math.e)
        return entropy
