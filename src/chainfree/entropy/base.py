"""What an estimator of a generator's entropy gradient offers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from ..generators.base import Draw, LatentGenerator

__all__ = ["EntropyEstimate", "EntropyEstimator"]


@dataclass(frozen=True)
class EntropyEstimate:
    """One estimate.

    Args:
        surrogate: ``(B,)``; the gradient of its mean in the generator's parameters estimates the entropy's. Unless the
            estimator says so, its value is not the entropy.
        metrics: detached 0-d tensors.
    """

    surrogate: Tensor
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


class EntropyEstimator(Protocol):
    """From one draw of a generator to a surrogate of its entropy.

    One that has parameters of its own is a :class:`chainfree.entropy.LearnedPosterior`.
    """

    @property
    def passes(self) -> float:
        """Passes through the generator for every sample, beside the one that made it: forward 1, backward 2.

        A forward derivative counts as two forward passes, and the surrogate's own backward pass counts where it goes
        anywhere but through the sample.
        """
        ...

    def __call__(
        self, net: LatentGenerator, draw: Draw, *, generator: torch.Generator | None = None
    ) -> EntropyEstimate:
        """The estimate; ``draw`` is :meth:`LatentGenerator.sample`'s, with its graph."""
        ...
