"""Exponential moving average of parameters."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import Parameter

__all__ = ["MovingAverage"]


class MovingAverage:
    """The running average of parameters that evaluation uses.

    The decay rises as ``min(decay, (1 + n) / (10 + n))`` so that the first steps are forgotten quickly.

    Args:
        parameters: what is averaged.
        decay: in [0, 1); its memory is ``1 / (1 - decay)`` steps.
    """

    def __init__(self, parameters: Sequence[Parameter], *, decay: float) -> None:
        self._parameters = [p.detach() for p in parameters]
        self._decay = decay
        self._count = 0
        self.averages = [p.clone() for p in self._parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Move towards the parameters as they are now; one fused call."""
        decay = min(self._decay, (1 + self._count) / (10 + self._count))
        torch._foreach_lerp_(self.averages, self._parameters, 1 - decay)
        self._count += 1

    def state_dict(self) -> dict[str, object]:
        """Averages and their count."""
        return {"averages": list(self.averages), "count": self._count}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, object]) -> None:
        """Copy saved averages in place."""
        averages, count = state["averages"], state["count"]
        assert isinstance(averages, list) and isinstance(count, int)
        for mine, saved in zip(self.averages, averages, strict=True):
            assert isinstance(saved, Tensor)
            mine.copy_(saved)
        self._count = count
