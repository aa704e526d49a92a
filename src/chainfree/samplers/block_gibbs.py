"""Block Gibbs for mixed rows: categories one by one from their conditionals, then a Langevin step of the numbers given them.

sites = [(2, 5), (3, 2)]  # columns that are codes, and how many values they have; the others are numbers
state = block_gibbs.init(log_density, x)
state, info = block_gibbs.step(log_density, state, sites=sites, step_size=0.1, generator=generator)
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from . import gibbs, mala
from .gibbs import Sites, State, init
from .kernels import Kernel, LogDensity
from .mala import Info

__all__ = ["Info", "Sites", "State", "init", "kernel", "step"]


def step(
    log_density: LogDensity,
    state: State,
    *,
    sites: Sites,
    step_size: float | Tensor,
    scales: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> tuple[State, Info]:
    """:func:`chainfree.samplers.gibbs.step` of the sites, then :func:`chainfree.samplers.mala.step` of the other columns.

    Args:
        log_density: ``(B, D) -> (B,)`` in nats, up to a constant, with a gradient in the numbers.
        state: of :func:`init` or the step before, under the same log-density.
        sites: columns that are codes, with their numbers of values. At least one column is none.
        step_size: of the Langevin step.
        scales: ``(D,)``; those of the sites are not looked at.
        generator: source of randomness on the device of the state.

    Raises:
        ValueError: sites that are none, no numbers, or a step size that is not above 0.
        ContractError: as :func:`chainfree.samplers.mala.step`.
    """
    (x, _), _ = gibbs.step(log_density, state, sites=sites, generator=generator)
    codes = {column for column, _ in sites}
    numbers = [column for column in range(x.shape[1]) if column not in codes]
    if not numbers:
        raise ValueError("every column is a site; take gibbs, which needs no step size")

    def given_codes(values: Tensor) -> Tensor:
        return log_density(x.index_copy(1, places, values))

    places = torch.tensor(numbers, device=x.device)
    start = mala.init(given_codes, x[:, numbers])
    moved, info = mala.step(
        given_codes,
        start,
        step_size=step_size,
        scales=None if scales is None else scales[numbers],
        generator=generator,
    )
    return State(x.index_copy(1, places, moved.x), moved.log_density), info


def kernel(log_density: LogDensity, *, sites: Sites) -> Kernel[State]:
    """:func:`init` and :func:`step` with MALA's target filled in, for :func:`chainfree.samplers.run`.

    Args:
        log_density, sites: as for :func:`step`.
    """
    return Kernel(
        init=lambda x, *, generator=None: init(log_density, x),
        step=partial(step, log_density, sites=sites),
        target=mala.TARGET,
        power=2,
    )
