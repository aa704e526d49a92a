"""Contrastive divergence and short-run chains as training losses.

Hinton, "Training Products of Experts by Minimizing Contrastive Divergence", Neural Computation 14, 2002. Nijkamp, Hill, Zhu,
Wu, "Learning Non-Convergent Non-Persistent Short-Run MCMC Toward Energy-Based Model", NeurIPS 2019, arXiv 1904.09770.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..checks import require_non_negative
from ..functional.contrastive import contrast
from ..samplers.chain import Chain
from ..typing import Density, Energy, LossOutput

__all__ = ["ContrastiveDivergence", "ShortRun"]


@dataclass(frozen=True, kw_only=True)
class ContrastiveDivergence:
    r"""CD-k: energies of data less those of chains that start in the data and take k steps.

    .. math:: E_p[E(x)] - E[E(x^{(k)})], \quad x^{(0)} = x

    Its gradient is that of the log-likelihood where the chains forget their start. Short ones never leave the mode they are
    in, so modes' weights are not learnt, and far from all data the energy is whatever it happens to be.

    Args:
        chain: the steps.
        energy_square: α of :math:`\alpha\,(E_p[E^2] + E[E(x^{(k)})^2])`, which keeps energies from drifting away.

    Raises:
        ValueError: ``energy_square`` is negative.
    """

    chain: Chain = field(default_factory=Chain)
    energy_square: float = 0.0

    def __post_init__(self) -> None:
        require_non_negative("energy_square", self.energy_square)

    def __call__(self, energy: Energy, x: Tensor, /, *, generator: torch.Generator | None = None) -> LossOutput:
        """The scalar loss in nats, with the mean energies of data and chains as metrics."""
        return contrast_output(energy, x, self.chain(energy, x, generator=generator), self.energy_square)


@dataclass(frozen=True, kw_only=True)
class ShortRun:
    """Chains that start anew in noise at every step, and are too short to forget it.

    What is learnt is the sampler: the chains end in the data. As a density the energy is off by whatever the chains have not
    reached.

    Args:
        initial: where chains start, a density as wide as the data.
        chain: the steps.
        energy_square: as in :class:`ContrastiveDivergence`.

    Raises:
        ValueError: ``energy_square`` is negative.
    """

    initial: Density
    chain: Chain = field(default_factory=lambda: Chain(steps=100, step_size=0.05))
    energy_square: float = 0.0

    def __post_init__(self) -> None:
        require_non_negative("energy_square", self.energy_square)

    def __call__(self, energy: Energy, x: Tensor, /, *, generator: torch.Generator | None = None) -> LossOutput:
        """The scalar loss in nats, with the mean energies of data and chains as metrics."""
        with torch.no_grad():
            start = self.initial.sample(len(x), generator=generator).to(x)
        return contrast_output(energy, x, self.chain(energy, start, generator=generator), self.energy_square)


def contrast_output(energy: Energy, x: Tensor, samples: Tensor, energy_square: float) -> LossOutput:
    """The contrast of data and samples as a loss with its metrics."""
    found = contrast(energy, x, samples, energy_square=energy_square)
    metrics = {
        "loss": found.loss.detach(),
        "energy_data": found.data.detach().mean(),
        "energy_samples": found.samples.detach().mean(),
    }
    return LossOutput(found.loss, metrics)
