r"""The Metropolis-adjusted Langevin algorithm: a step maps a state to a state and what happened.

Roberts and Tweedie, "Exponential convergence of Langevin distributions and their discrete approximations", Bernoulli 2(4),
1996. The step size follows Hoffman and Gelman, "The No-U-Turn Sampler", JMLR 15, 2014, section 3.2.

    state = mala.init(log_density, x)
    state, info = mala.step(log_density, state, step_size=0.1, generator=generator)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..checks import require_positive
from .gradients import value_and_gradient

__all__ = ["Adaptation", "Info", "State", "adapt", "init", "start_adaptation", "step"]

_SHRINKAGE = 0.05  # γ, t0 and κ of Hoffman and Gelman, whose values these are
_DELAY = 10
_FORGETTING = 0.75

LogDensity = Callable[[Tensor], Tensor]


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
    """

    acceptance: Tensor
    accepted: Tensor


def init(log_density: LogDensity, x: Tensor) -> State:
    """Chains that start in the rows of ``x``, ``(B, *event)``.

    Raises:
        ContractError: ``log_density`` does not map ``(B, *event)`` to ``(B,)`` with a gradient in the rows.
    """
    values, gradient = value_and_gradient(log_density, x)
    return State(x.detach(), values, gradient)


@torch.no_grad()
def step(
    log_density: LogDensity, state: State, *, step_size: float | Tensor, generator: torch.Generator | None = None
) -> tuple[State, Info]:
    r"""One proposal :math:`y = x + \tfrac h2 \nabla\log p(x) + \sqrt h\, n`, accepted so that p stays as it is.

    .. math:: \min\Bigl(1, \frac{p(y)\, N(x;\, y + \tfrac h2 \nabla\log p(y),\, h I)}
                                {p(x)\, N(y;\, x + \tfrac h2 \nabla\log p(x),\, h I)}\Bigr)

    Args:
        log_density: ``(B, *event) -> (B,)`` in nats, up to a constant. Where it or its gradient is NaN, a proposal is
            rejected.
        state: of :func:`init` or the step before, under the same log-density.
        step_size: h, in squared units of x; a 0-d tensor is not brought to the host.
        generator: source of randomness on the device of the state.

    Returns:
        The next state and its :class:`Info`.

    Raises:
        ContractError: as :func:`init`.
    """
    x, before, gradient = state
    noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    root = step_size**0.5
    proposal = x + 0.5 * step_size * gradient + root * noise
    after, slope = value_and_gradient(log_density, proposal)
    # what the noise of the way back would be: no difference of large numbers
    back = noise + 0.5 * root * (gradient + slope)
    change = after - before + 0.5 * (noise.square() - back.square()).flatten(1).sum(1)
    acceptance = torch.nan_to_num(change, nan=-math.inf).clamp_max(0).exp()
    uniform = torch.rand(acceptance.shape, generator=generator, device=x.device, dtype=acceptance.dtype)
    accepted = uniform < acceptance
    rows = accepted.view(-1, *[1] * (x.dim() - 1))
    following = State(
        torch.where(rows, proposal, x),
        torch.where(accepted, after, before),
        torch.where(rows, slope, gradient),
    )
    return following, Info(acceptance, accepted)


class Adaptation(NamedTuple):
    """A step size on its way to a target acceptance; all but ``steps`` are 0-d tensors that stay on their device.

    Args:
        step_size: to take the next step with.
        average: of the step sizes so far, the later the heavier: to keep once adaptation ends.
        error: mean of target less acceptance.
        start: the first step size.
        steps: so far.
    """

    step_size: Tensor
    average: Tensor
    error: Tensor
    start: Tensor
    steps: int


def start_adaptation(step_size: float, like: Tensor) -> Adaptation:
    """Begin at ``step_size``, in squared units of x, on the device and in the type of ``like``.

    Raises:
        ValueError: ``step_size`` is not a finite number above 0.
    """
    require_positive("step_size", step_size)
    start = like.new_tensor(step_size)
    return Adaptation(start, start, like.new_zeros(()), start, 0)


@torch.no_grad()
def adapt(adaptation: Adaptation, acceptance: Tensor, *, target: float = 0.57) -> Adaptation:
    r"""Dual averaging: shorter steps where chains were accepted less often than ``target``, ever more slowly.

    The chains share one step size. While it adapts they do not keep p exactly; discard those steps and go on with
    ``average``.

    Args:
        adaptation: of :func:`start_adaptation` or the step before.
        acceptance: :attr:`Info.acceptance` of the step taken with ``adaptation.step_size``, ``(B,)``.
        target: mean acceptance aimed at; 0.574 mixes best in many dimensions (Roberts and Rosenthal, 1998).

    Raises:
        ValueError: ``target`` is not between 0 and 1.
    """
    if not 0 < target < 1:
        raise ValueError(f"target must be an acceptance rate between 0 and 1, got {target!r}")
    count = adaptation.steps + 1
    share = 1 / (count + _DELAY)
    error = (1 - share) * adaptation.error + share * (target - acceptance.mean().to(adaptation.error))
    # the centre lies above the start: too short a step costs more than too long a one
    log_step = math.log(10) + adaptation.start.log() - math.sqrt(count) / _SHRINKAGE * error
    weight = count**-_FORGETTING
    log_average = weight * log_step + (1 - weight) * adaptation.average.log()
    return Adaptation(log_step.exp(), log_average.exp(), error, adaptation.start, count)
