"""All parameters of a player in one buffer, so that an optimizer step is one kernel instead of one per layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import Parameter

__all__ = ["FlatParameters"]


class FlatParameters:
    """Moves parameters into flat buffers, one for every dtype and device, of which they become views.

    The modules that own them notice nothing: values, names and ``load_state_dict`` stay as they are. Small networks spend
    more time in the optimizer's bookkeeping for each tensor than in arithmetic; here that is paid once.

    Args:
        parameters: of one player.
    """

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        groups: dict[tuple[torch.dtype, torch.device], list[Parameter]] = {}
        for parameter in parameters:
            groups.setdefault((parameter.dtype, parameter.device), []).append(parameter)
        self._groups = list(groups.values())
        self.buffers = [Parameter(torch.cat([p.detach().flatten() for p in group])) for group in self._groups]
        self.attach()

    @torch.no_grad()
    def attach(self) -> None:
        """Make the parameters views of the buffers (again), with the values they have now.

        Another engine on the same module, or ``module.to``, takes them away: an optimizer would go on with memory that no
        module reads.

        Raises:
            ValueError: they have another dtype or device than the buffers.
        """
        for buffer, group in zip(self.buffers, self._groups, strict=True):
            for parameter, view in zip(group, buffer.detach().split([p.numel() for p in group]), strict=True):
                if (parameter.dtype, parameter.device) != (buffer.dtype, buffer.device):
                    raise ValueError(
                        f"a parameter was {buffer.dtype} on {buffer.device} and is now {parameter.dtype} on "
                        f"{parameter.device}; move modules before the engine is made"
                    )
                if parameter.data_ptr() != view.data_ptr():
                    view.copy_(parameter.flatten())
                    parameter.data = view.view_as(parameter)

    def gather_gradients(self) -> None:
        """Collect the parameters' gradients in the buffers'; a parameter the loss did not reach has zero."""
        for buffer, group in zip(self.buffers, self._groups, strict=True):
            buffer.grad = torch.cat([_gradient(p).flatten() for p in group])

    def clear_gradients(self) -> None:
        """Forget all gradients."""
        for group in self._groups:
            for parameter in group:
                parameter.grad = None

    def unflatten(self, flat: Sequence[Tensor]) -> dict[int, Tensor]:
        """Values laid out like the buffers, as views by the ``id`` of the parameter they belong to."""
        return {
            id(parameter): view.view_as(parameter)
            for values, group in zip(flat, self._groups, strict=True)
            for parameter, view in zip(group, values.split([p.numel() for p in group]), strict=True)
        }


def _gradient(parameter: Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
