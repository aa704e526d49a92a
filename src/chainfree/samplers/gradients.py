"""Values and gradients in the rows, without a graph."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..checks import ContractError

__all__ = ["value_and_gradient"]


def value_and_gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """``function(x)``, ``(B,)``, and its gradient in the rows, ``(B, *event)``.

    Neither carries a graph, the caller's ``x`` is not asked for a gradient, and no parameter gets one.

    Raises:
        ContractError: the rows are no floats, there is no gradient in them, or the values are not ``(B,)``.
    """
    if not x.is_floating_point():
        raise ContractError(f"samplers take gradients in the rows, which are {x.dtype}; convert them to floats")
    with torch.enable_grad():
        rows = x.detach().requires_grad_()  # a new tensor: the caller's stays as it is
        values = function(rows)
        if values.shape != (len(x),):
            raise ContractError(
                f"got values of shape {tuple(values.shape)} for {len(x)} rows; return one number per row, shape (B,)"
            )
        gradient = None
        if values.requires_grad:
            (gradient,) = torch.autograd.grad(values.sum(), rows, allow_unused=True)
    if gradient is None:
        raise ContractError("there is no gradient in the rows; compute the values from x, without detach or no_grad")
    return values.detach(), gradient
