"""One loss, one player."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.nn import Parameter

from ..typing import Batch, Energy, Loss, Update

__all__ = ["Single"]


@dataclass(frozen=True)
class Single:
    """Lift a loss to an objective whose only player is the energy."""

    loss: Loss

    def players(self, energy: torch.nn.Module, /) -> Mapping[str, Sequence[Parameter]]:
        """The energy's trainable parameters."""
        return {"energy": [p for p in energy.parameters() if p.requires_grad]}

    def updates(self, energy: Energy, batch: Batch, step: int, generator: torch.Generator) -> Iterator[Update]:
        """One turn a round."""
        output = self.loss(energy, batch.x, generator=generator)
        yield Update("energy", output.loss, output.metrics)
