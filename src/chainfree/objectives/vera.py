"""VERA: a generator, kept spread out by a variational entropy gradient, in place of the Markov chains.

Grathwohl, Kelly, Hashemi, Norouzi, Swersky, Duvenaud, "No MCMC for Me: Amortized Sampling for Fast and Stable Training of
Energy-Based Models", ICLR 2021, arXiv 2010.04230.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from ..checks import ContractError, energy_values, require_non_negative, require_positive_int
from ..entropy import EntropyEstimator, LearnedPosterior, LocalVolume
from ..functional.contrastive import PenaltyAt, contrast, descent, require_penalty_at
from ..functional.entropy import mixture_log_prob
from ..functional.importance import Weights, self_normalised
from ..generators.base import Draw, LatentGenerator
from ..typing import Batch, Energy, Update
from .negatives import Proposals, WeightedNegatives
from .parameters import trainable

__all__ = ["VERA"]


class VERA(nn.Module):
    r"""The game :math:`\max_q \min_E\; E_{p}[E(x)] - E_q[E(x)]` with an entropy term for the generator q.

    .. math::
        L_E &= \tfrac1B\sum_i E(x_i) - \sum_n w_n E(\tilde x_n)
               + \tfrac\gamma2\, E_m\lVert\nabla_x E\rVert^2 + \alpha\,(E_p[E^2] + E_q[E^2]) \\
        L_q &= E_q[E(x)] - \lambda H(q) + c\,\bigl(-\textstyle\sum_n w_n \log q(\tilde x_n)\bigr)

    With :math:`\lambda = 1` and even weights :math:`L_q` is the variational bound on :math:`-\log Z`. Another λ makes the
    generator aim at :math:`p_E^{1/\lambda}`. Players in the order of their turns: ``energy``; ``posterior``, if the
    entropy's estimator learns one; ``generator``, on the batch that the energy has just seen.

    Args:
        generator: q.
        entropy: estimator of the entropy's gradient; :class:`chainfree.entropy.LocalVolume` by default,
            :class:`chainfree.entropy.ImportancePosterior` in the paper.
        entropy_weight: λ.
        gradient_penalty: γ, in nats times squared units of the data.
        penalty_at: what m is: the data, as in the paper, or data and negatives; see
            :func:`chainfree.functional.contrastive.contrast`.
        penalty_every: see there.
        energy_square: α.
        negatives: how the generator's samples are weighted in :math:`L_E`, and c; ``None`` is the paper's game: even weights.
        samples: of the generator a round; as many as data by default.
        entropy_samples: of these, how many the entropy is estimated on, from the first; all by default. A good
            estimator's variance is small, and it is the dearest part of the round for image generators.
        energy_steps: turns of the energy a round, each on fresh samples.
        generator_steps: turns of the generator a round, the first on the samples that the energy saw last.

    Raises:
        ValueError: a setting out of its range.

    Rows with classes: :class:`chainfree.objectives.Joint` adds its terms to the energy's turns.
    """

    def __init__(
        self,
        generator: LatentGenerator,
        *,
        entropy: EntropyEstimator | None = None,
        entropy_weight: float = 1.0,
        gradient_penalty: float = 0.1,
        penalty_at: PenaltyAt = "data",
        penalty_every: int = 1,
        energy_square: float = 0.0,
        negatives: WeightedNegatives | None = None,
        samples: int | None = None,
        entropy_samples: int | None = None,
        energy_steps: int = 1,
        generator_steps: int = 1,
    ) -> None:
        super().__init__()
        require_non_negative("entropy_weight", entropy_weight)
        require_non_negative("gradient_penalty", gradient_penalty)
        require_penalty_at(penalty_at)
        require_positive_int("penalty_every", penalty_every)
        require_non_negative("energy_square", energy_square)
        require_positive_int("energy_steps", energy_steps)
        require_positive_int("generator_steps", generator_steps)
        for name, value in [("samples", samples), ("entropy_samples", entropy_samples)]:
            if value is not None:
                require_positive_int(name, value)
        self.generator = generator
        self.entropy = LocalVolume(generator.latent_dim) if entropy is None else entropy
        self.entropy_weight = entropy_weight
        self.gradient_penalty = gradient_penalty
        self.penalty_at: PenaltyAt = penalty_at
        self.penalty_every = penalty_every
        self.energy_square = energy_square
        self.negatives = negatives
        self.samples = samples
        self.entropy_samples = entropy_samples
        self.energy_steps = energy_steps
        self.generator_steps = generator_steps
        # registered so that it moves with the objective; its own weights are never trained
        self._defensive = nn.ModuleList() if negatives is None else negatives.held_modules()

    def players(self, energy: nn.Module, /) -> Mapping[str, Sequence[Parameter]]:
        """The energy, the posterior's scale if there is one, the generator."""
        players = {"energy": trainable(energy)}
        if isinstance(self.entropy, LearnedPosterior):
            players["posterior"] = trainable(self.entropy)
        players["generator"] = trainable(self.generator)
        return players

    def updates(self, energy: Energy, batch: Batch, step: int, generator: torch.Generator) -> Iterator[Update]:
        """The turns of one round."""
        if batch.x.shape[1:] != self.generator.event_shape:
            raise ContractError(
                f"data of shape {tuple(batch.x.shape[1:])} cannot be compared with samples of "
                f"{self.generator.event_shape}; make the generator for the data's shape"
            )
        n = self._samples(len(batch))
        for turn in range(self.energy_steps):
            last = turn + 1 == self.energy_steps
            # only the last samples are differentiated: the generator's first turn is on them
            with torch.set_grad_enabled(last and torch.is_grad_enabled()):
                draw = self.generator.sample(n, generator=generator)
            proposals, weights, update = self._energy_turn(energy, batch, draw, generator)
            yield update
        if isinstance(self.entropy, LearnedPosterior):
            loss = self.entropy.loss(self.generator, draw, generator)
            yield Update("posterior", loss, {"posterior_loss": loss.detach()})
        for turn in range(self.generator_steps):
            if turn > 0:
                draw = self.generator.sample(n, generator=generator)
                proposals, weights = self._reweighted(energy, draw, generator)
            yield self.generator_loss(energy, draw, proposals, weights, generator)

    # -- the energy's turn ---------------------------------------------------------------------------------------------

    def _energy_turn(
        self, energy: Energy, batch: Batch, draw: Draw, generator: torch.Generator
    ) -> tuple[Proposals | None, Weights | None, Update]:
        proposals = None if self.negatives is None else self.negatives.propose(self.generator, draw, generator)
        rows = draw.x.detach() if proposals is None else proposals.x
        loss, data, fake, weights = self.energy_loss(energy, batch, rows, proposals)
        metrics = {
            "energy_data": data.detach().mean(),
            "energy_samples": fake.detach()[: len(draw.x)].mean(),
            "sigma": self.generator.sigma.detach(),
        }
        if weights is not None:
            metrics["negatives_ess"] = weights.effective_sample_size
        return proposals, weights, Update("energy", loss, metrics)

    def energy_loss(
        self, energy: Energy, batch: Batch, fake: Tensor, proposals: Proposals | None
    ) -> tuple[Tensor, Tensor, Tensor, Weights | None]:
        """The energy's loss; its values at data and at the negatives; the negatives' weights.

        See :func:`chainfree.functional.contrastive.contrast`.
        """
        log_density, clip = None, None
        if proposals is not None and self.negatives is not None:
            log_density, clip = proposals.log_density, self.negatives.clip
        return contrast(
            energy,
            batch.x,
            fake,
            gradient_penalty=self.gradient_penalty,
            penalty_at=self.penalty_at,
            penalty_every=self.penalty_every,
            energy_square=self.energy_square,
            log_density=log_density,
            clip=clip,
        )

    # -- the generator's turn ------------------------------------------------------------------------------------------

    def generator_loss(
        self,
        energy: Energy,
        draw: Draw,
        proposals: Proposals | None,
        weights: Weights | None,
        generator: torch.Generator,
    ) -> Update:
        """The generator's turn: down the energy, up the entropy, and over what the weights say it misses."""
        loss, _ = descent(energy, draw.x)
        metrics: dict[str, Tensor] = {}
        if self.entropy_weight:
            part = draw.first(self.entropy_samples)
            estimate = self.entropy(self.generator, part, generator=generator)
            loss = loss - self.entropy_weight * estimate.surrogate.mean()
            metrics |= estimate.metrics
        if (
            proposals is not None
            and weights is not None
            and self.negatives is not None
            and self.negatives.covering_weight
        ):
            seen = mixture_log_prob(proposals.x, draw.mean, self.generator.log_sigma)
            loss = loss - self.negatives.covering_weight * (weights.values * seen).sum()
        return Update("generator", loss, metrics)

    def _reweighted(
        self, energy: Energy, draw: Draw, generator: torch.Generator
    ) -> tuple[Proposals | None, Weights | None]:
        if self.negatives is None:
            return None, None
        proposals = self.negatives.propose(self.generator, draw, generator)
        with torch.no_grad():
            values = energy_values(energy, proposals.x)
        return proposals, self_normalised(-values - proposals.log_density, clip=self.negatives.clip)

    def _samples(self, rows: int) -> int:
        return rows if self.samples is None else self.samples
