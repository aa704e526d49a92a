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
    """Lift a loss to an objective whose only player is the energy.

    Raises:
        TypeError: the loss has state of its own.
    """

    loss: Loss

    def __post_init__(self) -> None:
        if isinstance(self.loss, torch.nn.Module) and self.loss.state_dict():
            raise TypeError(
                f"{type(self.loss).__name__} has parameters or buffers, which a single player would neither train nor "
                "save; write an objective that is an nn.Module and names them among its players"
            )

    def players(self, energy: torch.nn.Module, /) -> Mapping[str, Sequence[Parameter]]:
        """The energy's trainable parameters."""
        return {"energy": [p for p in energy.parameters() if p.requires_grad]}

    def updates(self, energy: Energy, batch: Batch, step: int, generator: torch.Generator) -> Iterator[Update]:
        """One turn a round."""
        output = self.loss(energy, batch.x, generator=generator)
        yield Update("energy", output.loss, output.metrics)
