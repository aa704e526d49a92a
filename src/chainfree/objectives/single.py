"""One loss, one player."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import nn
from torch.nn import Parameter
from typing_extensions import TypeIs

from ..typing import Batch, Energy, Loss, Objective, Update

__all__ = ["Single", "as_objective"]


def as_objective(candidate: Loss | Objective) -> Objective:
    """An objective as it is, a loss with the energy as its only player."""
    if _is_objective(candidate):
        return candidate
    return Single(candidate)


def _is_objective(candidate: Loss | Objective) -> TypeIs[Objective]:
    return hasattr(candidate, "updates") and hasattr(candidate, "players")


class Single(nn.Module):
    """Lift a loss to an objective whose only player is the energy.

    Densities that are modules in the loss's settings, or in settings of these, are held as a part of this one: they move with
    it, and every checkpoint has them. They are not trained.

    Raises:
        TypeError: the loss itself has parameters or buffers.
    """

    def __init__(self, loss: Loss) -> None:
        super().__init__()
        if isinstance(loss, nn.Module) and loss.state_dict():
            raise TypeError(
                f"{type(loss).__name__} has parameters or buffers, which a single player would neither train nor "
                "save; write an objective that is an nn.Module and names them among its players"
            )
        self.loss = loss
        self.held = nn.ModuleDict(_modules(loss)).requires_grad_(False)

    def players(self, energy: nn.Module, /) -> Mapping[str, Sequence[Parameter]]:
        """The energy's trainable parameters."""
        return {"energy": [p for p in energy.parameters() if p.requires_grad]}

    def updates(self, energy: Energy, batch: Batch, step: int, generator: torch.Generator) -> Iterator[Update]:
        """One turn a round."""
        output = self.loss(energy, batch.x, generator=generator)
        yield Update("energy", output.loss, output.metrics)


def _modules(settings: object, name: str = "") -> dict[str, nn.Module]:
    """Modules among the fields of a record and of the records in them, by their path."""
    if not dataclasses.is_dataclass(settings):
        return {}
    found: dict[str, nn.Module] = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        path = f"{name}{field.name}"
        found |= {path: value} if isinstance(value, nn.Module) else _modules(value, f"{path}_")
    return found
