r"""Underdamped (kinetic) Langevin steps, Metropolis-adjusted unless told otherwise: generalised Hamiltonian Monte Carlo.

Horowitz, "A generalized guided Monte Carlo algorithm", Physics Letters B 268, 1991. The momentum is kept from step to step
and refreshed a little, so that single leapfrog steps go far in one direction. A refreshment and a leapfrog step in turn are
the splitting OBABO: Bussi and Parrinello, Physical Review E 75, 2007; Leimkuhler and Matthews, 2015.

    state = underdamped.init(log_density, x, generator=generator)
    state, info = underdamped.step(log_density, state, step_size=0.3, friction=1.0, generator=generator)
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ..checks import require_positive, require_positive_int
from . import hmc
from .hmc import Info
from .kernels import Kernel, LogDensity
from .metropolis import (
    acceptance_of,
    factor,
    metropolis,
    not_finite,
    per_row,
    require_scales,
    require_step_size,
    select,
)

__all__ = ["Info", "State", "Unadjusted", "init", "kernel", "step"]

TARGET = 0.9  # a rejection turns the chain round, so there should be few


class State(NamedTuple):
    """Where each of B chains is and where it is going; nothing carries a graph.

    Args:
        x: ``(B, *event)``.
        momentum: standard normal in its stationary law, whatever the scales, ``(B, *event)``.
        log_density: in nats, up to a constant, ``(B,)``.
        gradient: of the log-density, ``(B, *event)``.
    """

    x: Tensor
    momentum: Tensor
    log_density: Tensor
    gradient: Tensor


class Unadjusted(NamedTuple):
    """What one unadjusted step did to each chain; what a correction would have said is computed when asked for.

    Args:
        before: the state it started from.
        refreshed: momentum with which it did, ``(B, *event)``.
        after: the state it went to.
    """

    before: State
    refreshed: Tensor
    after: State

    @property
    def energy_error(self) -> Tensor:
        """Hamiltonian at the end less that at the start, in nats, ``(B,)``."""
        return -hmc.energy_gain(self.before.log_density, self.refreshed, self.after.log_density, self.after.momentum)

    @property
    def acceptance(self) -> Tensor:
        """The probability with which the adjusted step would have been accepted, ``(B,)``: 1 where there is no bias."""
        return acceptance_of(-self.energy_error, self.after.log_density)[0]

    @property
    def accepted(self) -> Tensor:
        """All of them, ``(B,)``."""
        return torch.ones_like(self.after.log_density, dtype=torch.bool)

    @property
    def diverging(self) -> Tensor:
        """Whether the log-density is not finite, ``(B,)``. The chain is there all the same."""
        return not_finite(self.after.log_density)


@torch.no_grad()
def init(log_density: LogDensity, x: Tensor, *, generator: torch.Generator | None = None) -> State:
    """Chains that start in the rows of ``x``, ``(B, *event)``, with normal momentum.

    Raises:
        ContractError: ``log_density`` does not map ``(B, *event)`` to ``(B,)`` with a gradient in the rows.
    """
    x, values, gradient = hmc.init(log_density, x)
    return State(x, torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype), values, gradient)


@torch.no_grad()
def step(
    log_density: LogDensity,
    state: State,
    *,
    step_size: float | Tensor,
    friction: float = 1.0,
    leapfrog: int = 1,
    adjusted: bool = True,
    scales: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> tuple[State, Info | Unadjusted]:
    r"""Refresh the momentum in part, then L leapfrog steps that are accepted or turned round.

    .. math:: p \leftarrow e^{-\gamma L \epsilon} p + \sqrt{1 - e^{-2\gamma L\epsilon}}\, n, \qquad
              (x, p) \leftarrow \begin{cases} \Phi_\epsilon^L(x, p) & \text{with probability } \min(1, e^{-\Delta H}) \\
              (x, -p) & \text{else} \end{cases}

    Each of the two keeps :math:`p(x)\,N(p)`; so without bias. A friction without bounds is HMC, with L = 1 MALA at
    :math:`h = \epsilon^2`.

    Unadjusted, every step is taken: less is lost by turning round, and the bias is of order :math:`\epsilon^2`. Of a standard
    normal the stationary law is then :math:`N(0, 1/(1 - \epsilon^2/4))`, whatever the friction, and from
    :math:`\epsilon = 2` on there is none.

    Args:
        log_density: ``(B, *event) -> (B,)`` in nats, up to a constant. Where it or its gradient is not finite, a step is
            rejected if adjusted, and else flagged ``diverging``.
        state: of :func:`init` or the step before, under the same log-density.
        step_size: :math:`\epsilon`, in units of x, or of ``scales``. A 0-d tensor is not brought to the host; ``(B,)`` is
            one for each chain.
        friction: :math:`\gamma`, above 0, per unit of the time that the step size counts.
        leapfrog: L; as many forward and backward passes.
        adjusted: whether to accept or reject.
        scales: :math:`\sigma`, ``event``: a standard deviation for each feature, above 0. Without it 1.
        generator: source of randomness on the device of the state.

    Returns:
        The next state and its :class:`Info`, or :class:`Unadjusted`.

    Raises:
        ValueError: a setting out of its range.
        ContractError: as :func:`init`, or scales that are not of the event's shape.
    """
    require_step_size(step_size)
    _require_settings(friction, leapfrog)
    require_scales(scales, state.x)
    x = state.x
    decay = factor(step_size, x) * (-friction * leapfrog)
    noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    momentum = noise.mul_((-torch.expm1(2 * decay)).sqrt()).addcmul_(decay.exp(), state.momentum)
    start = hmc.State(x, state.log_density, state.gradient)
    end, last = hmc.trajectory(
        partial(hmc.init, log_density), start, momentum, reach=hmc.reach_of(step_size, scales, x), leapfrog=leapfrog
    )
    if not adjusted:
        after = State(end.x, last, end.log_density, end.gradient)
        return after, Unadjusted(state, momentum, after)
    gain = hmc.energy_gain(start.log_density, momentum, end.log_density, last)
    acceptance, accepted, diverging = metropolis(gain, end.log_density, generator)
    kept = select(accepted, end, start)
    momentum = torch.where(per_row(accepted, x), last, -momentum)
    return State(kept.x, momentum, kept.log_density, kept.gradient), Info(acceptance, accepted, diverging, -gain)


def kernel(
    log_density: LogDensity, *, friction: float = 1.0, leapfrog: int = 1, adjusted: bool = True
) -> Kernel[State]:
    """:func:`init` and :func:`step` with their settings filled in, for :func:`chainfree.samplers.run`.

    Unadjusted, the step size is the caller's choice, and warm-up leaves it alone unless it is given a ``target``.

    Raises:
        ValueError: a setting out of its range.
    """
    _require_settings(friction, leapfrog)
    return Kernel(
        init=partial(init, log_density),
        step=partial(step, log_density, friction=friction, leapfrog=leapfrog, adjusted=adjusted),
        target=TARGET if adjusted else None,
        exact=adjusted,
    )


def _require_settings(friction: float, leapfrog: int) -> None:
    require_positive("friction", friction)
    require_positive_int("leapfrog", leapfrog)
