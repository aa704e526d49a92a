"""The exact entropy of linear generators."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..generators.base import Draw, LatentGenerator
from ..generators.linear import LinearGenerator
from .base import EntropyEstimate

__all__ = ["ExactLinear"]


@dataclass(frozen=True)
class ExactLinear:
    """The closed form of :meth:`LinearGenerator.entropy`, for every sample the same; its value is the entropy."""

    @property
    def passes(self) -> float:
        """None."""
        return 0.0

    def __call__(
        self, net: LatentGenerator, draw: Draw, *, generator: torch.Generator | None = None
    ) -> EntropyEstimate:
        """The estimate.

        Raises:
            TypeError: the generator is not linear.
        """
        if not isinstance(net, LinearGenerator):
            raise TypeError(f"only a LinearGenerator has an exact entropy, got a {type(net).__name__}; use LocalVolume")
        entropy = net.entropy()
        return EntropyEstimate(entropy.expand(len(draw.z)), {"entropy": entropy.detach()})
