r"""Unadjusted Langevin steps as a kernel: no step is rejected, and what that costs is reported.

:func:`chainfree.samplers.langevin` takes the same steps where nothing needs to be known of them. Roberts and Tweedie,
"Exponential convergence of Langevin distributions and their discrete approximations", Bernoulli 2(4), 1996.

    state = ula.init(log_density, x)
    state, info = ula.step(log_density, state, step_size=0.01, generator=generator)
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from .kernels import Kernel, LogDensity
from .mala import State, init, log_ratio, propose
from .metropolis import acceptance_of, not_finite

__all__ = ["Info", "State", "init", "kernel", "step"]


class Info(NamedTuple):
    """What one step did to each chain.

    Args:
        before: the state it started from.
        after: the state it went to.
        noise: standard normal, ``(B, *event)``.
        spread: what the noise was multiplied with.
    """

    before: State
    after: State
    noise: Tensor
    spread: Tensor

    @property
    def acceptance(self) -> Tensor:
        """The probability with which MALA would have accepted the step, ``(B,)``: 1 where there is no bias.

        It takes no evaluation of the density, and is computed when asked for.
        """
        return acceptance_of(log_ratio(*self), self.after.log_density)[0]

    @property
    def diverging(self) -> Tensor:
        """Whether the log-density is not finite, ``(B,)``. The chain is there all the same."""
        return not_finite(self.after.log_density)


@torch.no_grad()
def step(
    log_density: LogDensity,
    state: State,
    *,
    step_size: float | Tensor,
    scales: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> tuple[State, Info]:
    r"""One step :math:`x \leftarrow x + \tfrac h2 \sigma^2 \nabla\log p(x) + \sqrt h\, \sigma n`.

    Its stationary law is p only as h goes to 0: of a standard normal it is :math:`N(0, 1/(1 - h/4))`, and from :math:`h = 4`
    on there is none.

    Args:
        log_density: ``(B, *event) -> (B,)`` in nats, up to a constant.
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
    return following, Info(state, following, noise, spread)


def kernel(log_density: LogDensity) -> Kernel[State]:
    """:func:`init` and :func:`step` for :func:`chainfree.samplers.run`, which leaves the step size alone.

    With a ``target`` of 0.95, say, warm-up finds the step size whose bias MALA would correct by rejecting one step in twenty.
    """
    return Kernel(
        init=lambda x, *, generator=None: init(log_density, x),
        step=partial(step, log_density),
        target=None,
        power=2,
        exact=False,
    )
