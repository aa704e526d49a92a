"""Latent energy priors: a decoder, and an energy of its latents learned from the latents of the data.

Pang, Han, Nijkamp, Zhu, Wu, "Learning Latent Space Energy-Based Prior Model", NeurIPS 2020, arXiv 2006.08205 (by chains on
the prior); Schroeder, Ou, Lim, Li, Vollmer, Duncan, "Energy Discrepancies: A Score-Independent Loss for Energy-Based
Models", NeurIPS 2023, arXiv 2307.06431, section 5 (without any).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from ..checks import energy_values
from ..generators import BatchNorm, LatentGenerator
from ..latent import (
    LangevinPosterior,
    LatentModel,
    Likelihood,
    RevisedPosterior,
    VariationalPosterior,
)
from ..latent.model import require_likelihood
from ..typing import Batch, Energy, Loss, Objective, Update
from .parameters import trainable
from .single import as_objective

__all__ = ["LatentPrior"]

Posterior = LangevinPosterior | VariationalPosterior | RevisedPosterior


class LatentPrior(nn.Module):
    r"""Maximum likelihood of :math:`p(x, z) = p(x \mid z)\, e^{-E(z)} / Z`, the prior by any loss on the data's latents.

    .. math::
        \nabla \log p(x) = E_{p(z|x)}\bigl[\nabla \log p(x \mid z) - \nabla E(z)\bigr] - \nabla \log Z

    The first term trains the decoder, at draws z of the posterior; the others are the maximum likelihood of the prior on
    these draws, and any loss of an energy on rows takes their place. Players in the order of their turns: ``decoder``;
    ``encoder``, where there is one that learns from revised draws (a variational one is part of the decoder's turn, whose
    loss is then the negative evidence lower bound); and those of the prior, whose energy is the engine's.

    Args:
        decoder: of the rows' shape. Without batch norms, as latents of one row are decoded with those of others.
        posterior: where the latents of rows come from.
        prior: a loss or objective of the energy on latents: :class:`chainfree.losses.EnergyDiscrepancy`,
            :class:`chainfree.losses.ShortRun` by chains, :class:`chainfree.losses.DenoisingScoreMatching`, a
            :class:`chainfree.objectives.VERA` with a generator of latents; ``None`` leaves the prior as it is: with a
            :class:`VariationalPosterior` a variational autoencoder.
        likelihood: of rows given latents, see :class:`chainfree.latent.LatentModel`.

    The energy that is given to the engine is that of the latents: :func:`chainfree.latent.latent_prior`. Metrics of the prior
    that are not of its energies begin with ``prior_``.

    Raises:
        TypeError: a posterior of another kind.
        ValueError: an unknown likelihood, a decoder with batch norms, an encoder of other latents than the decoder's.
    """

    def __init__(
        self,
        decoder: LatentGenerator,
        posterior: Posterior,
        prior: Objective | Loss | None,
        *,
        likelihood: Likelihood = "gaussian",
    ) -> None:
        super().__init__()
        require_likelihood(likelihood)
        if not isinstance(posterior, Posterior):
            known = "a LangevinPosterior, VariationalPosterior or RevisedPosterior"
            raise TypeError(f"posterior must be {known}, got {type(posterior).__name__}")
        if any(isinstance(module, BatchNorm) for module in decoder.modules()):
            raise ValueError(
                "the decoder has batch norms, by which rows would share their latents; give batch_norm=False"
            )
        if not isinstance(posterior, LangevinPosterior) and posterior.encoder.latent_dim != decoder.latent_dim:
            raise ValueError(
                f"encoder and decoder need latents of one size, got {posterior.encoder.latent_dim} and {decoder.latent_dim}"
            )
        self.decoder = decoder
        self.posterior = posterior
        # registered so that it moves and is saved with the objective
        self.encoder = None if isinstance(posterior, LangevinPosterior) else posterior.encoder
        self.prior: Objective | None = None if prior is None else as_objective(prior)
        self.likelihood: Likelihood = likelihood

    def model(self, energy: Energy) -> LatentModel:
        """Rows and latents together, with this energy of the latents."""
        return LatentModel(energy, self.decoder, self.likelihood)

    def rows_of_energy(self, batch: Batch) -> Tensor:
        """What the energy is evaluated on, ``(B, latent_dim)``: no rows of the batch."""
        return self.decoder.log_sigma.new_zeros(len(batch), self.decoder.latent_dim)

    def players(self, energy: nn.Module, /) -> Mapping[str, Sequence[Parameter]]:
        """The decoder, the encoder if there is one, the prior's."""
        players: dict[str, Sequence[Parameter]] = {"decoder": trainable(self.decoder)}
        if isinstance(self.posterior, VariationalPosterior):
            players["decoder"] = [*players["decoder"], *trainable(self.posterior.encoder)]
        elif isinstance(self.posterior, RevisedPosterior):
            players["encoder"] = trainable(self.posterior.encoder)
        return players if self.prior is None else {**players, **self.prior.players(energy)}

    def updates(self, energy: Energy, batch: Batch, step: int, generator: torch.Generator) -> Iterator[Update]:
        """The turns of one round, all on the same draws of the latents."""
        model = self.model(energy)
        if isinstance(self.posterior, VariationalPosterior):
            z, loss, metrics = _bound(model, self.posterior, batch.x, generator)
        else:
            z = self.posterior.latents(model, batch.x, generator=generator)
            loss = -model.log_conditional(batch.x, z).mean()
            metrics = {}
        yield Update("decoder", loss, {**metrics, "loss": loss.detach(), "sigma": self.decoder.sigma.detach()})
        if isinstance(self.posterior, RevisedPosterior):
            surprise = -self.posterior.encoder.log_prob(z, batch.x).mean()
            yield Update("encoder", surprise, {"encoder_loss": surprise.detach()})
        if self.prior is None:
            return
        for update in self.prior.updates(energy, Batch(z.detach()), step, generator):
            metrics = {_of_prior(name): value for name, value in update.metrics.items()}
            limits = {_of_prior(name): limit for name, limit in update.limits.items()}
            yield Update(update.player, update.loss, metrics, limits)


def _of_prior(name: str) -> str:
    """Beside the decoder's, which has a loss and a sigma too."""
    return name if name.startswith("energy") else f"prior_{name}"


def _bound(
    model: LatentModel, posterior: VariationalPosterior, x: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Draws of the latents with their graph, the negative evidence lower bound up to log Z, and its parts."""
    (z,), _ = posterior.encoder.sample(x, generator=generator)
    reconstruction = -model.log_conditional(x, z).mean()
    divergence = (energy_values(model.prior, z) - posterior.encoder.entropy(x)).mean()
    metrics = {"reconstruction": reconstruction.detach(), "divergence": divergence.detach()}
    return z, reconstruction + divergence, metrics
