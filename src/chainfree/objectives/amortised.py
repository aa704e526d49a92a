"""A generator for a frozen energy: sampling without chains from whatever was trained, by whatever method."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import nn
from torch.nn import Parameter

from ..checks import energy_values, require_non_negative, require_positive, require_positive_int
from ..entropy import EntropyEstimator, LearnedPosterior, LocalVolume
from ..functional.contrastive import descent
from ..functional.entropy import mixture_log_prob
from ..functional.importance import self_normalised
from ..generators.base import LatentGenerator
from ..typing import Batch, Energy, Update
from .negatives import WeightedNegatives
from .parameters import trainable

__all__ = ["Amortised"]


class Amortised(nn.Module):
    r"""Fit a generator q to :math:`p \propto e^{-E}` with E fixed.

    .. math:: L_q = \beta\, E_q[E(x)] - H(q) - c \textstyle\sum_n w_n \log q(\tilde x_n),
              \qquad w \propto e^{-\beta E(\tilde x)} / q(\tilde x)

    The first two terms are the reverse divergence :math:`\mathrm{KL}(q \Vert p)` without :math:`\log Z`, the third the
    forward one, by importance weights (:class:`WeightedNegatives`; none without it). β rises from a small value to 1, so
    that modes appear while the generator is still spread over all of them. The energy is no player: the engine leaves it
    alone.

    Args:
        generator: q.
        entropy: estimator of the entropy's gradient; :class:`chainfree.entropy.LocalVolume` by default.
        negatives: the proposals of the third term and c; ``None`` leaves it out.
        samples: of the generator a round.
        start: β at the first round, in (0, 1].
        annealing: rounds over which β rises to 1, geometrically.

    Raises:
        ValueError: a setting out of its range.
    """

    def __init__(
        self,
        generator: LatentGenerator,
        *,
        entropy: EntropyEstimator | None = None,
        negatives: WeightedNegatives | None = None,
        samples: int = 128,
        start: float = 1.0,
        annealing: int = 0,
    ) -> None:
        super().__init__()
        require_positive_int("samples", samples)
        require_positive("start", start)
        if start > 1:
            raise ValueError(f"start is a share of the energy, at most 1, got {start!r}")
        require_non_negative("annealing", annealing)
        self.generator = generator
        self.entropy = LocalVolume(generator.latent_dim) if entropy is None else entropy
        self.negatives = negatives
        self.samples = samples
        self.start = start
        self.annealing = annealing
        self._defensive = nn.ModuleList() if negatives is None else negatives.held_modules()

    def players(self, energy: nn.Module, /) -> Mapping[str, Sequence[Parameter]]:
        """The posterior's scale if the entropy's estimator learns one, and the generator."""
        players = {"generator": trainable(self.generator)}
        if isinstance(self.entropy, LearnedPosterior):
            return {"posterior": trainable(self.entropy), **players}
        return players

    def updates(self, energy: Energy, batch: Batch, step: int, generator: torch.Generator) -> Iterator[Update]:
        """One round; the batch is not looked at."""
        draw = self.generator.sample(self.samples, generator=generator)
        if isinstance(self.entropy, LearnedPosterior):
            yield Update("posterior", self.entropy.loss(self.generator, draw, generator))
        beta = self.inverse_temperature(step)
        mean, values = descent(energy, draw.x)
        estimate = self.entropy(self.generator, draw, generator=generator)
        loss = beta * mean - estimate.surrogate.mean()
        metrics = {"energy_samples": values.mean(), "sigma": self.generator.sigma.detach(), **estimate.metrics}
        if self.negatives is not None:
            proposals = self.negatives.propose(self.generator, draw, generator)
            wide = proposals.x[len(draw.x) :]
            if len(wide):  # the samples' own energies are known
                with torch.no_grad():
                    values = torch.cat([values, energy_values(energy, wide)])
            weights = self_normalised(-beta * values - proposals.log_density, clip=self.negatives.clip)
            if self.negatives.covering_weight:
                seen = mixture_log_prob(proposals.x, draw.mean, self.generator.log_sigma)
                loss = loss - self.negatives.covering_weight * (weights.values * seen).sum()
            metrics["negatives_ess"] = weights.effective_sample_size
        yield Update("generator", loss, metrics)

    def inverse_temperature(self, step: int) -> float:
        """β at a round."""
        if step >= self.annealing:
            return 1.0
        return float(self.start ** (1 - step / self.annealing))
