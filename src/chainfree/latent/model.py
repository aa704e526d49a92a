r"""A decoder whose latents have an energy: :math:`p(x, z) = p(x \mid z)\, e^{-E(z)} / Z`.

Pang, Han, Nijkamp, Zhu, Wu, "Learning Latent Space Energy-Based Prior Model", NeurIPS 2020, arXiv 2006.08205. Trained by
:class:`chainfree.objectives.LatentPrior`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ..checks import ContractError, energy_values, require_positive_int
from ..energies import Gaussian, Tilted
from ..generators import LatentGenerator
from ..typing import Energy
from .encoder import GaussianEncoder

__all__ = ["LatentModel", "Likelihood", "LogLikelihoods", "latent_prior"]

Likelihood = Literal["gaussian", "bernoulli"]


def latent_prior(network: torch.nn.Module, latent_dim: int) -> Tilted:
    r""":math:`E(z) = f(z) + \tfrac12\lVert z\rVert^2` + const: a standard normal tilted by a network that starts at zero.

    Args:
        network: f, ``(B, latent_dim) -> (B,)``.
        latent_dim: features of z.
    """
    require_positive_int("latent_dim", latent_dim)
    return Tilted(Gaussian(torch.zeros(latent_dim)), network)


class LogLikelihoods(NamedTuple):
    """What :meth:`LatentModel.log_likelihood` returns.

    Args:
        values: of every row, in nats, up to the prior's log Z, ``(B,)``: too low on average, the less the more draws.
        effective_draws: Kish's effective number of each row's draws, ``(B,)``.
    """

    values: Tensor
    effective_draws: Tensor


@dataclass(frozen=True)
class LatentModel:
    """Rows and their latents together.

    Args:
        prior: energy of the latents, ``(B, latent_dim) -> (B,)``, in nats; :func:`latent_prior` makes one.
        decoder: mean of a row given its latents, and the noise scale of the Gaussian likelihood.
        likelihood: ``"gaussian"`` with the decoder's σ, or ``"bernoulli"`` of bits, of whose logits the decoder gives the
            means: leave out its last activation.
    """

    prior: Energy
    decoder: LatentGenerator
    likelihood: Likelihood = "gaussian"

    def __post_init__(self) -> None:
        if self.likelihood not in ("gaussian", "bernoulli"):
            raise ValueError(f"likelihood must be 'gaussian' or 'bernoulli', got {self.likelihood!r}")

    def log_conditional(self, x: Tensor, z: Tensor) -> Tensor:
        r""":math:`\log p(x \mid z)` in nats, ``(B,)``; the rows may have several latents, ``(draws, B, latent_dim)``.

        Raises:
            ContractError: rows of another shape than the decoder's.
        """
        if x.shape[1:] != self.decoder.event_shape:
            raise ContractError(
                f"rows of shape {tuple(x.shape[1:])}, and the decoder makes {self.decoder.event_shape}; make it for the data"
            )
        mean = self.decoder.decode(z.flatten(0, -2)).unflatten(0, z.shape[:-1])
        if self.likelihood == "gaussian":
            return self.decoder.log_likelihood(x, mean)
        log_probs: Tensor = (x * mean - softplus(mean)).flatten(z.dim() - 1).sum(-1)
        return log_probs

    def log_joint(self, x: Tensor, z: Tensor) -> Tensor:
        r""":math:`\log p(x \mid z) - E(z)` in nats, ``(B,)``: the log-posterior of z up to a constant of the row."""
        prior = energy_values(self.prior, z.flatten(0, -2)).view(z.shape[:-1])
        return self.log_conditional(x, z) - prior

    def given(self, x: Tensor) -> Energy:
        """The energy of the latents of these rows, ``(B, latent_dim) -> (B,)``: row by row, in their order."""
        return lambda z: -self.log_joint(x, z)

    def mean(self, z: Tensor) -> Tensor:
        """Rows without noise, ``(B, *event)``: pixels, or of bits their probabilities."""
        mean = self.decoder.decode(z)
        return mean if self.likelihood == "gaussian" else torch.sigmoid(mean)

    @torch.no_grad()
    def log_likelihood(
        self, x: Tensor, encoder: GaussianEncoder, *, draws: int = 64, generator: torch.Generator | None = None
    ) -> LogLikelihoods:
        r""":math:`\log p(x) + \log Z = \log E_{q(z|x)}\, p(x \mid z) e^{-E(z)} / q(z \mid x)`, by importance sampling.

        Args:
            x: rows, ``(B, *event)``.
            encoder: q, whose tails should be as wide as the posterior's.
            draws: of each row.
            generator: source of randomness on the device of the rows.
        """
        z, log_q = encoder.sample(x, draws=draws, generator=generator)
        log_weights = (self.log_joint(x, z) - log_q).double()
        shares = log_weights.softmax(0)
        values = torch.logsumexp(log_weights, 0) - math.log(draws)
        return LogLikelihoods(values, 1 / shares.square().sum(0))
