r"""Hamiltonian Monte Carlo: a step maps a state to a state and what happened.

Duane, Kennedy, Pendleton and Roweth, "Hybrid Monte Carlo", Physics Letters B 195, 1987; Neal, "MCMC using Hamiltonian
dynamics", 2011, arXiv 1206.1901.

    state = hmc.init(log_density, x)
    state, info = hmc.step(log_density, state, step_size=0.3, leapfrog=8, generator=generator)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from ..checks import require_in_unit_interval, require_positive_int
from .gradients import value_and_gradient
from .kernels import Kernel, LogDensity
from .metropolis import Rows, factor, full, half_squares, metropolis, require_scales, require_step_size, select

__all__ = ["Info", "State", "init", "kernel", "step"]

TARGET = 0.8  # above the 0.651 that is best in many dimensions: cheap, and steadier (Betancourt, Byrne, Girolami, 2014)


class State(NamedTuple):
    """Where each of B chains is; nothing carries a graph.

    Args:
        x: ``(B, *event)``.
        log_density: in nats, up to a constant, ``(B,)``.
        gradient: of the log-density, ``(B, *event)``.
    """

    x: Tensor
    log_density: Tensor
    gradient: Tensor


class Info(NamedTuple):
    """What one step did to each chain.

    Args:
        acceptance: the probability with which the end of the trajectory was to be accepted, ``(B,)``.
        accepted: whether it was, ``(B,)``.
        diverging: whether the trajectory lost more than 1000 nats or ended where nothing is finite, ``(B,)``: the step size
            is too long for some place on the way.
        energy_error: Hamiltonian at the end less that at the start, in nats, ``(B,)``; 0 but for the leapfrog's error.
    """

    acceptance: Tensor
    accepted: Tensor
    diverging: Tensor
    energy_error: Tensor


def init(log_density: LogDensity, x: Tensor) -> State:
    """Chains that start in the rows of ``x``, ``(B, *event)``.

    Raises:
        ContractError: ``log_density`` does not map ``(B, *event)`` to ``(B,)`` with a gradient in the rows.
    """
    values, gradient = value_and_gradient(log_density, x)
    return State(x.detach(), values, gradient)


@torch.no_grad()
def step(
    log_density: LogDensity,
    state: State,
    *,
    step_size: float | Tensor,
    leapfrog: int,
    scales: Tensor | None = None,
    jitter: float = 0.0,
    generator: torch.Generator | None = None,
) -> tuple[State, Info]:
    r"""One trajectory of L leapfrog steps from a fresh normal momentum, accepted with :math:`\min(1, e^{-\Delta H})`.

    .. math:: H(x, p) = -\log p(x) + \tfrac12 |p|^2, \qquad
              p \leftarrow p + \tfrac\epsilon2 \sigma\nabla\log p(x), \quad x \leftarrow x + \epsilon\sigma p, \quad
              p \leftarrow p + \tfrac\epsilon2 \sigma\nabla\log p(x)

    The gradient at the start is the state's, so a trajectory costs L forward and backward passes.

    Args:
        log_density: ``(B, *event) -> (B,)`` in nats, up to a constant. Where it or its gradient is not finite, a trajectory
            is rejected.
        state: of :func:`init` or the step before, under the same log-density.
        step_size: :math:`\epsilon`, in units of x, or of ``scales``. A 0-d tensor is not brought to the host; ``(B,)`` is
            one for each chain.
        leapfrog: L.
        scales: :math:`\sigma`, ``event``: a standard deviation for each feature, above 0, the root of a diagonal inverse
            mass matrix. Without it 1.
        jitter: share by which each chain's step size varies from trajectory to trajectory, uniformly, from 0 to below 1:
            without it a trajectory that goes round a period ends where it began.
        generator: source of randomness on the device of the state.

    Returns:
        The next state and its :class:`Info`.

    Raises:
        ValueError: a setting out of its range.
        ContractError: as :func:`init`, or scales that are not of the event's shape.
    """
    require_step_size(step_size)
    require_positive_int("leapfrog", leapfrog)
    require_in_unit_interval("jitter", jitter)
    require_scales(scales, state.x)
    return move(
        partial(init, log_density),
        state,
        step_size=step_size,
        leapfrog=leapfrog,
        scales=scales,
        jitter=jitter,
        generator=generator,
    )


def kernel(log_density: LogDensity, *, leapfrog: int, jitter: float = 0.0) -> Kernel[State]:
    """:func:`init` and :func:`step` with their target and settings filled in, for :func:`chainfree.samplers.run`.

    Raises:
        ValueError: a setting out of its range.
    """
    require_positive_int("leapfrog", leapfrog)
    require_in_unit_interval("jitter", jitter)

    return Kernel(
        init=lambda x, *, generator=None: init(log_density, x),
        step=partial(step, log_density, leapfrog=leapfrog, jitter=jitter),
        target=TARGET,
    )


class Point(Rows, Protocol):
    """Rows with their log-density and its gradient, and whatever else was computed with them."""

    @property
    def x(self) -> Tensor: ...

    @property
    def log_density(self) -> Tensor: ...

    @property
    def gradient(self) -> Tensor: ...


PointT = TypeVar("PointT", bound=Point)


def reach_of(step_size: float | Tensor, scales: Tensor | None, x: Tensor) -> Tensor:
    """How far a unit of momentum goes in one step, to multiply rows with."""
    reach = factor(step_size, x)
    return full(reach if scales is None else reach * scales, x)


def trajectory(
    evaluate: Callable[[Tensor], PointT], start: PointT, momentum: Tensor, *, reach: Tensor, leapfrog: int
) -> tuple[PointT, Tensor]:
    """The end of L leapfrog steps and the momentum there."""
    point = start
    # the half kicks between two steps are one; the momentum is our own, so it is changed in place
    momentum = torch.addcmul(momentum, reach, point.gradient, value=0.5)
    for left in range(leapfrog - 1, -1, -1):
        point = evaluate(torch.addcmul(point.x, reach, momentum))
        momentum.addcmul_(reach, point.gradient, value=1.0 if left else 0.5)
    return point, momentum


def move(
    evaluate: Callable[[Tensor], PointT],
    start: PointT,
    *,
    step_size: float | Tensor,
    leapfrog: int,
    scales: Tensor | None,
    jitter: float,
    generator: torch.Generator | None,
) -> tuple[PointT, Info]:
    """A trajectory from a fresh momentum, accepted or not."""
    x = start.x
    momentum = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    if jitter:
        spread = 2 * torch.rand(len(x), generator=generator, device=x.device, dtype=x.dtype) - 1
        step_size = step_size * (1 + jitter * spread)
    end, last = trajectory(evaluate, start, momentum, reach=reach_of(step_size, scales, x), leapfrog=leapfrog)
    after = end.log_density
    gain = energy_gain(start.log_density, momentum, after, last)
    acceptance, accepted, diverging = metropolis(gain, after, generator)
    return select(accepted, end, start), Info(acceptance, accepted, diverging, -gain)


def energy_gain(before: Tensor, momentum: Tensor, after: Tensor, last: Tensor) -> Tensor:
    """Hamiltonian at the start less that at the end, ``(B,)``, from the log-densities and momenta there."""
    return after - before + half_squares(momentum, last)
