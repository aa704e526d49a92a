"""Values and gradients in the rows, without a graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import ContractError, energy_values
from ..typing import Energy

__all__ = ["MinusEnergy", "value_and_gradient"]


@dataclass(frozen=True)
class MinusEnergy:
    """The log-density :math:`-E`, up to a constant, of an energy: what the samplers move chains under.

    The same as ``lambda x: -energy(x)``, but the energy is held to its contract, and the sign costs no operation in the
    forward and none in the backward pass.

    Args:
        energy: ``(B, *event) -> (B,)``, in nats.

    >>> MinusEnergy(lambda x: x.square().sum(1))(torch.ones(1, 2))
    tensor([-2.])
    """

    energy: Energy

    def __call__(self, x: Tensor) -> Tensor:
        """``(B, *event) -> (B,)``.

        Raises:
            ContractError: the energy's shape is not ``(B,)``.
        """
        return -energy_values(self.energy, x)


def value_and_gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """``function(x)``, ``(B,)``, and its gradient in the rows, ``(B, *event)``.

    Neither carries a graph, the caller's ``x`` is not asked for a gradient, and no parameter gets one.

    Raises:
        ContractError: the rows are no floats, there is no gradient in them, or the values are not ``(B,)``.
    """
    if not x.is_floating_point():
        raise ContractError(f"samplers take gradients in the rows, which are {x.dtype}; convert them to floats")
    minus = isinstance(function, MinusEnergy)
    rows = x.detach().requires_grad_()  # a new tensor: the caller's stays as it is
    with torch.enable_grad():
        values = energy_values(function.energy, rows) if isinstance(function, MinusEnergy) else function(rows)
    if values.shape != x.shape[:1]:
        raise ContractError(
            f"got values of shape {tuple(values.shape)} for {len(x)} rows; return one number per row, shape (B,)"
        )
    gradient = None
    if values.requires_grad:
        # weights of one, or minus one: no sum to go back through, and no operation for the sign
        (gradient,) = torch.autograd.grad(
            values, rows, torch.full_like(values, -1.0 if minus else 1.0), allow_unused=True
        )
    if gradient is None:
        raise ContractError("there is no gradient in the rows; compute the values from x, without detach or no_grad")
    values = values.detach()
    return -values if minus else values, gradient
