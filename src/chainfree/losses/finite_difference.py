"""Finite-difference score matching as a training loss.

Pang, Xu, Li, Song, Ermon, Zhu, "Efficient Learning of Generative Models via Finite-Difference Score Matching", NeurIPS 2020,
arXiv 2007.03317.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import require_positive
from ..functional.finite_difference import finite_difference_score_matching
from ..typing import Energy, LossOutput

__all__ = ["FiniteDifferenceScoreMatching"]


@dataclass(frozen=True, kw_only=True)
class FiniteDifferenceScoreMatching:
    """Mean over the batch of :func:`chainfree.functional.finite_difference_score_matching`.

    No derivative in the rows is taken, so the energy may be compiled and its activations may be any.

    Args:
        step: h, in units of the data. Below about 0.03 float32 shows.

    Raises:
        ValueError: ``step`` is not a finite number above 0.
    """

    step: float = 0.1

    def __post_init__(self) -> None:
        require_positive("step", self.step)

    def __call__(self, energy: Energy, x: Tensor, /, *, generator: torch.Generator | None = None) -> LossOutput:
        """The scalar loss, with the mean energy of the data as a metric."""
        found = finite_difference_score_matching(energy, x, step=self.step, generator=generator)
        loss = found.values.mean()
        return LossOutput(loss, {"loss": loss.detach(), "energy_data": found.data_energy.detach().mean()})
