"""The acceptance that adjusted samplers share, for chains in a batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from ..checks import ContractError, require_positive

__all__ = [
    "DIVERGENCE",
    "Rows",
    "acceptance_of",
    "factor",
    "full",
    "half_squares",
    "metropolis",
    "not_finite",
    "per_row",
    "require_scales",
    "require_step_size",
    "select",
]

DIVERGENCE = 1000.0  # nats lost in one proposal, Stan's threshold


class Rows(Protocol):
    """A named tuple of tensors with rows first, or of what all rows share."""

    def __iter__(self) -> Iterator[Tensor | None]: ...


RowsT = TypeVar("RowsT", bound=Rows)


def per_row(values: Tensor, x: Tensor) -> Tensor:
    """One number per row, ``(B,)``, to multiply rows ``(B, *event)`` with."""
    return values.view(-1, *[1] * (x.dim() - 1))


def factor(step_size: float | Tensor, x: Tensor) -> Tensor:
    """A step size to multiply rows with; a number becomes a tensor where ``x`` is, and nothing is brought to the host."""
    if not isinstance(step_size, Tensor):
        return x.new_full((), step_size)
    size = step_size.to(x.dtype)
    return per_row(size, x) if size.dim() else size


def full(size: Tensor, x: Tensor) -> Tensor:
    """A size for all rows as it is; one for each row or feature written out, to be used several times.

    Every use of one that has to be stretched to short rows is several times slower.
    """
    return size.expand(x.shape).contiguous() if size.dim() else size


def half_squares(a: Tensor, b: Tensor) -> Tensor:
    r""":math:`\tfrac12 (|a|^2 - |b|^2)` of each row, ``(B,)``."""
    squares = torch.addcmul(a.square(), b, b, value=-1).flatten(1)
    return squares.mv(squares.new_full((squares.shape[1],), 0.5))  # of short rows twice as fast as their sum


def acceptance_of(change: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """Acceptance probability and whether the proposal diverged, both ``(B,)``.

    Args:
        change: logarithm of the Metropolis-Hastings ratio.
        after: log-density of the proposal. Where it is infinite a chain would stay for ever, so that is a rejection too; a
            chain that starts where there is no density may enter.
    """
    sound = (change > -DIVERGENCE) & (after < math.inf)  # a NaN compares false
    return torch.where(sound, change, -math.inf).clamp_max_(0).exp_(), ~sound


def not_finite(values: Tensor) -> Tensor:
    """Whether they are NaN or infinite; in a quarter of the time that ``isfinite`` and ``~`` take."""
    return (values - values).bool()  # 0, or else NaN, which is true


def metropolis(change: Tensor, after: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor]:
    """Acceptance probability, the verdict, and whether the proposal diverged, all ``(B,)``."""
    acceptance, diverging = acceptance_of(change, after)
    uniform = torch.rand(change.shape, generator=generator, device=change.device, dtype=change.dtype)
    return acceptance, uniform < acceptance, diverging


def select(accepted: Tensor, proposal: RowsT, state: RowsT) -> RowsT:
    """Row by row the proposal where accepted, and else the state."""
    masks: dict[torch.Size, Tensor] = {}
    fields: list[Tensor | None] = []
    for new, old in zip(proposal, state, strict=True):
        if new is None or old is None or new is old:  # shared
            fields.append(old)
            continue
        if new.shape not in masks:
            # written out once: where is several times slower with a mask that it has to stretch
            masks[new.shape] = per_row(accepted, new).expand_as(new).contiguous()
        fields.append(torch.where(masks[new.shape], new, old))
    build: Callable[..., RowsT] = type(state)
    return build(*fields)


def require_step_size(step_size: float | Tensor) -> None:
    """Raise ``ValueError`` unless a number is finite and above 0; a tensor's values are not looked at, which would wait."""
    if not isinstance(step_size, Tensor):
        require_positive("step_size", step_size)


def require_scales(scales: Tensor | None, x: Tensor) -> None:
    """Raise ``ContractError`` unless there is one scale per feature: broadcasting would stretch the wrong axis."""
    if scales is not None and scales.shape != x.shape[1:]:
        raise ContractError(
            f"scales must have the rows' shape {tuple(x.shape[1:])}, got {tuple(scales.shape)}; "
            "give one standard deviation per feature"
        )
