"""Conditional noise-contrastive estimation as a training loss.

Ceylan and Gutmann, "Conditional Noise-Contrastive Estimation of Unnormalised Models", ICML 2018, arXiv 1806.03664.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..checks import energy_values, require_floats, require_positive_int
from ..functional.noise_contrastive import conditional_noise_contrast
from ..perturbations.pairs import LocalPairs, PairKernel
from ..typing import Energy, LossOutput

__all__ = ["ConditionalNCE"]


@dataclass(frozen=True, kw_only=True)
class ConditionalNCE:
    r"""Which of a datum and its perturbed copy is the datum? Log Z drops out of the answer.

    The population minimiser is the data's density, up to a constant on every set that the kernel's pairs join. With local
    pairs and one draw it is energy discrepancy at M = 1, w = 1 and :math:`t = s^2/2`.

    Args:
        pairs: the kernel; :class:`chainfree.perturbations.JumpPairs` compares far modes too.
        draws: copies of every datum.

    Raises:
        ValueError: ``draws`` below 1.
    """

    pairs: PairKernel = field(default_factory=LocalPairs)
    draws: int = 1

    def __post_init__(self) -> None:
        require_positive_int("draws", self.draws)

    def __call__(self, energy: Energy, x: Tensor, /, *, generator: torch.Generator | None = None) -> LossOutput:
        """The scalar loss in nats, with the mean energies of data and copies as metrics."""
        require_floats(x, "conditional NCE")
        y, log_ratio = self.pairs.draw(x, self.draws, generator=generator)
        stacked = torch.cat([x.unsqueeze(0), y]).flatten(0, 1)
        values = energy_values(energy, stacked).view(self.draws + 1, len(x))
        loss = conditional_noise_contrast(values[0], values[1:], log_ratio).mean()
        metrics = {
            "loss": loss.detach(),
            "energy_data": values[0].detach().mean(),
            "energy_pairs": values[1:].detach().mean(),
        }
        return LossOutput(loss, metrics)
