r"""Gibbs with gradients: of all bits the one is flipped from which the gradient promises most.

Grathwohl, Swersky, Hashemi, Duvenaud, Maddison, "Oops I Took A Gradient: Scalable Sampling for Discrete Distributions", ICML
2021, arXiv 2102.04509. One gradient a step stands for the log-densities of all neighbours, and Metropolis' correction keeps
the density whatever it promises.

    state = gibbs_with_gradients.init(log_density, x)
    state, info = gibbs_with_gradients.step(log_density, state, generator=generator)
"""

from __future__ import annotations

import torch
from torch import Tensor

from .kernels import Kernel, LogDensity
from .mala import Info, State, init
from .metropolis import metropolis, select

__all__ = ["Info", "State", "init", "kernel", "step"]


@torch.no_grad()
def step(log_density: LogDensity, state: State, *, generator: torch.Generator | None = None) -> tuple[State, Info]:
    r"""One flip :math:`i \sim \operatorname{softmax}(d / 2)`, accepted so that p stays.

    With :math:`d_i = (1 - 2 x_i)\,\partial_i \log p(x)`, to first order what flipping bit i adds to the log-density.

    Args:
        log_density: ``(B, *event) -> (B,)`` of bits 0 and 1 as floats, in nats, up to a constant, with a gradient in them.
            Where it or its gradient is not finite, a flip is rejected.
        state: of :func:`init` or the step before, under the same log-density.
        generator: source of randomness on the device of the state.

    Returns:
        The next state and its :class:`Info`.

    Raises:
        ContractError: ``log_density`` does not map ``(B, *event)`` to ``(B,)`` with a gradient in the rows.
    """
    chances = _flips(state)
    level = torch.rand(len(chances), 1, generator=generator, device=chances.device, dtype=chances.dtype)
    upto = chances.exp().cumsum(1)
    bit = torch.searchsorted(upto, level * upto[:, -1:]).clamp_max(chances.shape[1] - 1)
    bits = state.x.flatten(1)
    following = init(log_density, bits.scatter(1, bit, 1 - bits.gather(1, bit)).view_as(state.x))
    back = _flips(following).gather(1, bit) - chances.gather(1, bit)
    change = following.log_density - state.log_density + back.squeeze(1)
    acceptance, accepted, diverging = metropolis(change, following.log_density, generator)
    return select(accepted, following, state), Info(acceptance, accepted, diverging)


def kernel(log_density: LogDensity) -> Kernel[State]:
    """:func:`init` and :func:`step` for :func:`chainfree.samplers.run`; the step size and scales mean nothing here."""
    return Kernel(
        init=lambda x, *, generator=None: init(log_density, x),
        step=lambda state, *, step_size, scales=None, generator=None: step(log_density, state, generator=generator),
        target=None,
    )


def _flips(state: State) -> Tensor:
    """Log-probabilities of flipping each bit, ``(B, bits)``; where the gradient is not finite, all alike."""
    promised = 0.5 * ((1 - 2 * state.x) * state.gradient).flatten(1)
    return torch.log_softmax(torch.nan_to_num(promised, nan=0.0, posinf=0.0, neginf=0.0), dim=1)
