"""What the samplers have in common, so that one loop can run any of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

__all__ = ["Kernel", "LogDensity", "Outcome", "Position", "StateT"]

LogDensity = Callable[[Tensor], Tensor]


class Position(Protocol):
    """A state: of whatever else it remembers, the chains are at ``x``, ``(B, *event)``."""

    @property
    def x(self) -> Tensor: ...


class Outcome(Protocol):
    """What a step did: acceptance probabilities and divergences, ``(B,)``, or ``(K, B)`` at K temperatures."""

    @property
    def acceptance(self) -> Tensor: ...

    @property
    def diverging(self) -> Tensor: ...


StateT = TypeVar("StateT", bound=Position)
_StateT_co = TypeVar("_StateT_co", bound=Position, covariant=True)


class Init(Protocol[_StateT_co]):
    """Start chains in the rows of ``x``."""

    def __call__(self, x: Tensor, *, generator: torch.Generator | None = None) -> _StateT_co: ...


class Step(Protocol[StateT]):
    """Move every chain once."""

    def __call__(
        self,
        state: StateT,
        *,
        step_size: float | Tensor,
        scales: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[StateT, Outcome]: ...


@dataclass(frozen=True, kw_only=True)
class Kernel(Generic[StateT]):
    """A sampler with its target and settings filled in: what :func:`warm_up` and :func:`run` need to know of it.

    ``mala.kernel``, ``hmc.kernel`` and so on make them. All that is left open is what warm-up finds.

    Args:
        init: rows to a state.
        step: a state, step size and scales to the next state and its outcome.
        target: mean acceptance at which it mixes well; ``None`` if it never rejects, and the step size is the user's choice
            between bias and speed.
        power: of x in the units of the step size: 1 for Hamiltonian steps, 2 for Langevin steps.
        shape: of the step size: ``()``, or ``(K,)`` with one for each temperature.
        exact: whether a step keeps the density, at any step size. Steps that reject nothing and draw from no conditional do
            not.
    """

    init: Init[StateT]
    step: Step[StateT]
    target: float | None
    power: int = 1
    shape: tuple[int, ...] = ()
    exact: bool = True
