"""Persistent contrastive divergence: chains that go on from round to round.

Tieleman, "Training Restricted Boltzmann Machines using Approximations to the Likelihood Gradient", ICML 2008. Chains that
now and then start anew: Du and Mordatch, "Implicit Generation and Modeling with Energy-Based Models", NeurIPS 2019, arXiv
1903.08689.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import nn
from torch.nn import Parameter

from ..checks import require_in_unit_interval, require_non_negative, require_positive, require_positive_int
from ..functional.contrastive import contrast
from ..samplers.chain import Chain
from ..samplers.replay import ReplayBuffer
from ..typing import Batch, Density, Energy, Update
from .parameters import trainable

__all__ = ["PersistentContrastiveDivergence"]


class PersistentContrastiveDivergence(nn.Module):
    r"""Energies of data less those of chains from a replay buffer, which take a few steps a round and are put back.

    .. math:: E_p[E(x)] - E[E(x^{(k)})] + \alpha\,(E_p[E^2] + E[E(x^{(k)})^2])

    The gradient is that of the log-likelihood as far as the chains are draws of the energy: they must keep up with it, which
    asks for a slow learner; steps that are not adjusted are off by their size; and chains that start anew are not yet there.

    Where the energy has become steeper than the steps are short, these throw the chains uphill, the loss rewards it, and
    everything else that the network has learned is lost long before a loss is infinite. The guard therefore takes chains
    whose median is ``runaway`` nats a feature above the data's for divergence: ten are four and a half standard deviations
    off in every direction. A wider limit notices in time to stop, and too late for a good state to go back to.

    One player, ``energy``. The chains are a buffer of this module, so every checkpoint holds them.

    Args:
        buffer: the chains; rows like the data, or draws of ``initial``.
        chain: the steps of a round.
        initial: where chains start anew, or ``None`` where none does. A module's gradients are switched off.
        restarts: probability with which each chain of a round does, in [0, 1).
        samples: chains a round; as many as data by default.
        energy_square: α.
        runaway: nats a feature above the data from which on chains have run away, for the guard.

    Raises:
        ValueError: a setting out of its range, or restarts without a density to start from.
    """

    def __init__(
        self,
        buffer: ReplayBuffer,
        *,
        chain: Chain = Chain(),  # noqa: B008  (frozen)
        initial: Density | None = None,
        restarts: float = 0.0,
        samples: int | None = None,
        energy_square: float = 0.0,
        runaway: float = 10.0,
    ) -> None:
        super().__init__()
        require_in_unit_interval("restarts", restarts)
        require_non_negative("energy_square", energy_square)
        require_positive("runaway", runaway)
        if samples is not None:
            require_positive_int("samples", samples)
        if restarts > 0 and initial is None:
            raise ValueError(f"restarts={restarts!r}, but no density says where chains start anew; give initial")
        if isinstance(initial, nn.Module):
            initial.requires_grad_(False)
        self.buffer = buffer
        self.chain = chain
        self.initial = initial
        self.restarts = restarts
        self.samples = samples
        self.energy_square = energy_square
        self.runaway = runaway

    def players(self, energy: nn.Module, /) -> Mapping[str, Sequence[Parameter]]:
        """The energy."""
        return {"energy": trainable(energy)}

    def updates(self, energy: Energy, batch: Batch, step: int, generator: torch.Generator) -> Iterator[Update]:
        """One turn a round."""
        count = len(batch) if self.samples is None else self.samples
        anew = None
        if self.initial is not None and self.restarts > 0:
            with torch.no_grad():
                anew = self.initial.sample(count, generator=generator).to(batch.x)
        index, start = self.buffer.draw(count, fresh=anew, share=self.restarts, generator=generator)
        ends = self.chain(energy, start, generator=generator)
        self.buffer.put(index, ends)
        found = contrast(energy, batch.x, ends, energy_square=self.energy_square)
        metrics = {
            "loss": found.loss.detach(),
            "energy_data": found.data.detach().mean(),
            "energy_samples": found.samples.detach().mean(),
        }
        # medians: a few chains have just started anew, a few rows may lie far out
        above = (found.samples.detach().median() - found.data.detach().median()) / batch.x[0].numel()
        metrics["chains_above"] = above.clamp_min(0)
        yield Update("energy", found.loss, metrics, {"chains_above": self.runaway})
