"""What moves chains on the path from a base density to an energy: Hamiltonian Monte Carlo, or any kernel of the samplers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol, Self, TypeVar

import torch
from torch import Tensor

from ..blocks import rows_at_a_time
from ..checks import log_prob_values
from ..samplers import hmc
from ..samplers.gradients import MinusEnergy
from ..samplers.kernels import Kernel, LogDensity
from ..samplers.path import Point, mixed, place
from ..typing import Density, Energy

__all__ = ["Ends", "HamiltonianPath", "KernelMaker", "KernelPath", "Path", "log_ratio"]

JITTER = 0.5  # of the step sizes: places with unlike scales are each served by some trajectories

KernelMaker = Callable[[LogDensity], Kernel[Any]]
"""From a log-density to a kernel that keeps it, as ``functools.partial(gibbs.kernel, sites=sites)``."""


class Ends(Protocol):
    """Rows, ``(N, *event)``, with the log-densities of both ends of the path, ``(N,)``."""

    @property
    def x(self) -> Tensor: ...

    @property
    def target(self) -> Tensor: ...

    @property
    def base(self) -> Tensor | None: ...

    def take(self, index: Tensor, /) -> Self:
        """The rows of ``index``."""
        ...


EndsT = TypeVar("EndsT", bound=Ends)


class Path(Protocol[EndsT]):
    """How rows start and move on the path."""

    @property
    def target_acceptance(self) -> float | None:
        """At which mean acceptance the moves mix well; ``None`` where they have no step size to choose."""
        ...

    def start(self, beta: float, x: Tensor) -> EndsT:
        """Rows ``(B, *event)`` at one temperature."""
        ...

    def move(
        self, beta: float, point: EndsT, *, step_size: float, scales: Tensor, generator: torch.Generator | None
    ) -> tuple[EndsT, Tensor]:
        """The rows after a move that keeps the density of a temperature, and the mean acceptance."""
        ...


class HamiltonianPath:
    """Moves are trajectories.

    Args:
        energy: ``(B, *event) -> (B,)``.
        base: q, a normalised density.
        leapfrog: steps of each trajectory.
    """

    target_acceptance: float | None = 0.8

    def __init__(self, energy: Energy, base: Density, *, leapfrog: int) -> None:
        self._target = MinusEnergy(energy)
        self._base = partial(log_prob_values, base)
        self._leapfrog = leapfrog

    def start(self, beta: float, x: Tensor) -> Point:
        """See :class:`Path`."""
        return place(self._target, self._base, x.new_tensor([beta]), x)

    def move(
        self, beta: float, point: Point, *, step_size: float, scales: Tensor, generator: torch.Generator | None
    ) -> tuple[Point, Tensor]:
        """See :class:`Path`."""
        at = point._replace(betas=point.x.new_tensor([beta]))
        point, info = hmc.move(
            partial(place, self._target, self._base, at.betas),
            at,
            step_size=step_size,
            leapfrog=self._leapfrog,
            scales=scales,
            jitter=JITTER,
            generator=generator,
        )
        return point, info.acceptance.mean()


class KernelPath:
    """Moves are steps of a kernel: rows may be codes, or codes and numbers.

    Args:
        energy: ``(B, *event) -> (B,)``.
        base: q, a normalised density of the same rows.
        kernel: makes the kernel of a log-density.

    Raises:
        ValueError: its steps do not keep the density: weights would be wrong, and there and back in the same way.
    """

    def __init__(self, energy: Energy, base: Density, *, kernel: KernelMaker) -> None:
        self._target = MinusEnergy(energy)
        self._base = partial(log_prob_values, base)
        self._kernel = kernel
        found = kernel(self._target)
        if not found.exact:
            raise ValueError(
                "the kernel's steps do not keep the density, and log Z would be wrong; take one that rejects, as mala or hmc"
            )
        self.target_acceptance = found.target

    @torch.no_grad()
    def start(self, beta: float, x: Tensor) -> _Values:
        """See :class:`Path`; no gradient is asked for."""
        parts = x.split(rows_at_a_time(x))
        return _Values(x, *(torch.cat([end(part) for part in parts]) for end in (self._target, self._base)))

    def move(
        self, beta: float, point: _Values, *, step_size: float, scales: Tensor, generator: torch.Generator | None
    ) -> tuple[_Values, Tensor]:
        """See :class:`Path`."""
        betas = point.x.new_tensor([beta])
        kernel = self._kernel(lambda x: mixed(betas, self._target(x), self._base(x)))
        state = kernel.init(point.x, generator=generator)
        state, info = kernel.step(state, step_size=step_size, scales=scales, generator=generator)
        return self.start(beta, state.x), info.acceptance.mean()


class _Values(NamedTuple):
    x: Tensor
    target: Tensor
    base: Tensor

    def take(self, index: Tensor, /) -> _Values:
        return _Values(*(part.index_select(0, index) for part in self))


def log_ratio(point: Ends) -> Tensor:
    r""":math:`-E(x) - \log q(x)`, ``(B,)``, float64: what the log-density gains along the path.

    Raises:
        ValueError: it is NaN or positively infinite in some row.
    """
    assert point.base is not None
    ratio = point.target.double() - point.base.double()
    if not bool((ratio < torch.inf).all()):
        raise ValueError("the weights are NaN or infinite; is the base above 0 wherever the energy is finite?")
    return ratio
