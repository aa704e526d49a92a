r"""The Metropolis-adjusted Langevin algorithm: a step maps a state to a state and what happened.

Roberts and Tweedie, "Exponential convergence of Langevin distributions and their discrete approximations", Bernoulli 2(4),
1996. The step size and the scales are found by :mod:`chainfree.samplers.adaptation`.

    state = mala.init(log_density, x)
    state, info = mala.step(log_density, state, step_size=0.1, generator=generator)
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from .gradients import value_and_gradient
from .kernels import Kernel, LogDensity
from .metropolis import factor, half_squares, metropolis, require_scales, require_step_size, select

__all__ = ["Info", "State", "init", "kernel", "step"]

TARGET = 0.574  # mixes best in many dimensions: Roberts and Rosenthal, 1998


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
        acceptance: the probability with which the proposal was to be accepted, ``(B,)``.
        accepted: whether it was, ``(B,)``.
        diverging: whether the logarithm of the ratio was below -1000 or the proposal's log-density not finite, ``(B,)``.
    """

    acceptance: Tensor
    accepted: Tensor
    diverging: Tensor


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
    scales: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> tuple[State, Info]:
    r"""One proposal :math:`y = x + \tfrac h2 \sigma^2 \nabla\log p(x) + \sqrt h\, \sigma n`, accepted so that p stays.

    .. math:: \min\Bigl(1, \frac{p(y)\, N(x;\, y + \tfrac h2 \sigma^2 \nabla\log p(y),\, h \sigma^2)}
                                {p(x)\, N(y;\, x + \tfrac h2 \sigma^2 \nabla\log p(x),\, h \sigma^2)}\Bigr)

    Args:
        log_density: ``(B, *event) -> (B,)`` in nats, up to a constant. Where it or its gradient is not finite, a proposal is
            rejected.
        state: of :func:`init` or the step before, under the same log-density.
        step_size: h, in squared units of x, or of ``scales``; a 0-d tensor is not brought to the host, ``(B,)`` is one for
            each chain.
        scales: :math:`\sigma`, ``event``: a standard deviation for each feature, above 0. Without it 1.
        generator: source of randomness on the device of the state.

    Returns:
        The next state and its :class:`Info`.

    Raises:
        ValueError: a number for a step size that is not above 0.
        ContractError: as :func:`init`, or scales that are not of the event's shape.
    """
    following, noise, spread = propose(log_density, state, step_size=step_size, scales=scales, generator=generator)
    change = log_ratio(state, following, noise, spread)
    acceptance, accepted, diverging = metropolis(change, following.log_density, generator)
    return select(accepted, following, state), Info(acceptance, accepted, diverging)


def kernel(log_density: LogDensity) -> Kernel[State]:
    """:func:`init` and :func:`step` with their target filled in, for :func:`chainfree.samplers.run`."""
    return Kernel(
        init=lambda x, *, generator=None: init(log_density, x),
        step=partial(step, log_density),
        target=TARGET,
        power=2,
    )


def propose(
    log_density: LogDensity,
    state: State,
    *,
    step_size: float | Tensor,
    scales: Tensor | None,
    generator: torch.Generator | None,
) -> tuple[State, Tensor, Tensor]:
    """A Langevin step that is not yet accepted, its noise, and what the noise was multiplied with."""
    require_step_size(step_size)
    require_scales(scales, state.x)
    x = state.x
    noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    size = factor(step_size, x)
    spread = size.sqrt()
    if scales is not None:
        size, spread = size * scales.square(), spread * scales
    moved = torch.addcmul(x, size, state.gradient, value=0.5).addcmul_(spread, noise)
    return init(log_density, moved), noise, spread


def log_ratio(state: State, following: State, noise: Tensor, spread: Tensor) -> Tensor:
    """Logarithm of the Metropolis-Hastings ratio, ``(B,)``."""
    # what the noise of the way back would be: no difference of large numbers
    back = torch.addcmul(noise, spread, state.gradient + following.gradient, value=0.5)
    return following.log_density - state.log_density + half_squares(noise, back)
