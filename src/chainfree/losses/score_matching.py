"""Exact score matching as a training loss.

Hyvarinen, "Estimation of Non-Normalized Statistical Models by Score Matching", JMLR 6, 2005.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..functional.score_matching import exact_terms
from ..typing import Energy, LossOutput

__all__ = ["ScoreMatching"]


@dataclass(frozen=True, kw_only=True)
class ScoreMatching:
    """Mean over the batch of :func:`chainfree.functional.exact_score_matching`.

    One backward pass a feature, so for few features; :class:`SlicedScoreMatching` costs the same for any number. Nothing is
    random. The energy must be twice differentiable (not ReLU), and not compiled: ``torch.compile`` has no second derivatives.

    >>> ScoreMatching()(lambda x: 0.5 * x.square().sum(1), torch.zeros(3, 2)).loss.detach()
    tensor(-2.)
    """

    def __call__(self, energy: Energy, x: Tensor, /, *, generator: torch.Generator | None = None) -> LossOutput:
        """The scalar loss, with the mean energy of the data as a metric."""
        terms = exact_terms(energy, x)
        loss = terms.values.mean()
        return LossOutput(loss, {"loss": loss.detach(), "energy_data": terms.data_energy.detach().mean()})
