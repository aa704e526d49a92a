"""The modules that a run trains and a checkpoint holds: the energy and, if it is one, the objective."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import Parameter

from ..typing import Objective

__all__ = ["TrainedModules"]


class TrainedModules:
    """Names, modes, states and constraints of the energy and the objective.

    Args:
        energy: the network.
        objective: of which no state is kept unless it is an ``nn.Module`` that has one.
    """

    def __init__(self, energy: nn.Module, objective: Objective) -> None:
        candidates = {"energy": energy, "objective": objective}
        modules = {name: module for name, module in candidates.items() if isinstance(module, nn.Module)}
        # a loss that was lifted to an objective is a module, mostly without anything to save
        self.by_name = {name: module for name, module in modules.items() if name == "energy" or module.state_dict()}

    def to(self, device: torch.device) -> None:
        """Move all of them, in place."""
        for module in self.by_name.values():
            module.to(device)

    def train(self) -> None:
        """Put all of them in training mode."""
        for module in self.by_name.values():
            module.train()

    def require_contains(self, module: nn.Module) -> None:
        """Raise ``ValueError`` for a module that is neither one of these nor inside one."""
        if all(module is not inner for inner in self._all()):
            raise ValueError(
                f"{type(module).__name__} is no part of {' or '.join(self.by_name)}, so it was not trained here; give the "
                "energy or a module that the energy or the objective registers"
            )

    def require_registers(self, players: Mapping[str, Sequence[Parameter]]) -> None:
        """Raise ``ValueError`` for a trained parameter that no checkpoint would hold."""
        kept = {id(p) for module in self.by_name.values() for p in module.parameters()}
        for name, parameters in players.items():
            if any(id(p) not in kept for p in parameters):
                raise ValueError(
                    f"player {name!r} has parameters that neither the energy nor the objective registers, so no checkpoint "
                    "would hold them; make the objective an nn.Module"
                )

    def layout(self, players: Mapping[str, Sequence[Parameter]]) -> dict[str, list[str]]:
        """Names of each player's parameters in order: what the flat buffers of its optimizer mean."""
        names = {id(p): f"{m}.{n}" for m, module in self.by_name.items() for n, p in module.named_parameters()}
        return {player: [names[id(p)] for p in group] for player, group in players.items()}

    def constraints(self, players: Mapping[str, Sequence[Parameter]]) -> dict[str, list[Callable[[], object]]]:
        """For each player, ``constrain`` of the modules that hold one of its parameters.

        Only of those: a module whose parameters did not move may have a graph that waits for its own player's turn, and
        changing a tensor in place would break it.
        """
        hooks = [(getattr(module, "constrain", None), {id(p) for p in module.parameters()}) for module in self._all()]
        return {
            player: [hook for hook, held in hooks if callable(hook) and not held.isdisjoint(map(id, parameters))]
            for player, parameters in players.items()
        }

    def state_dict(self) -> dict[str, Any]:
        """The state of each, by name, not copied."""
        return {name: module.state_dict() for name, module in self.by_name.items()}

    def require_fits(self, state: Mapping[str, Any]) -> None:
        """Raise ``ValueError`` if a saved state is of other modules."""
        if set(self.by_name) != set(state):
            raise ValueError(
                f"the checkpoint has states of {sorted(state)}, this run of {sorted(self.by_name)}; "
                "resume with the objective it was trained with"
            )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Copy a saved state that :meth:`require_fits` has let pass.

        Raises:
            ValueError: a module has another shape.
        """
        for name, module in self.by_name.items():
            try:
                module.load_state_dict(state[name])
            except RuntimeError as error:
                what = "network" if name == "energy" else name
                raise ValueError(
                    f"the checkpoint does not fit the {what}: {str(error).splitlines()[-1].strip().rstrip('.')}; "
                    "build it as it was trained"
                ) from error

    def _all(self) -> Iterator[nn.Module]:
        """They and all that is inside them, each once: an objective may register the energy too."""
        return nn.ModuleList(self.by_name.values()).modules()
