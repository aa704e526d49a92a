"""Sliced score matching as a training loss.

Song, Garg, Shi, Ermon, "Sliced Score Matching: A Scalable Approach to Density and Score Estimation", UAI 2019, arXiv
1905.07088.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import require_positive_int
from ..functional.score_matching import sliced_terms
from ..typing import Energy, LossOutput

__all__ = ["SlicedScoreMatching"]


@dataclass(frozen=True, kw_only=True)
class SlicedScoreMatching:
    """Mean over the batch of :func:`chainfree.functional.sliced_score_matching`.

    The energy must be twice differentiable (not ReLU), and not compiled: ``torch.compile`` has no second derivatives.

    Args:
        projections: random directions a row, one backward pass each.
        variance_reduction: take the squared gradient exactly (SSM-VR).

    Raises:
        ValueError: ``projections`` below 1.
    """

    projections: int = 1
    variance_reduction: bool = True

    def __post_init__(self) -> None:
        require_positive_int("projections", self.projections)

    def __call__(self, energy: Energy, x: Tensor, /, *, generator: torch.Generator | None = None) -> LossOutput:
        """The scalar loss, with the mean energy of the data as a metric."""
        terms = sliced_terms(
            energy,
            x,
            projections=self.projections,
            variance_reduction=self.variance_reduction,
            generator=generator,
        )
        loss = terms.values.mean()
        return LossOutput(loss, {"loss": loss.detach(), "energy_data": terms.data_energy.detach().mean()})
