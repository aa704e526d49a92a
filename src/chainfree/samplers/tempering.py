r"""Parallel tempering: K chains at falling inverse temperatures that exchange their places, B times over.

The hot chains pass between modes, and swaps carry them down. Swendsen and Wang, Physical Review Letters 57, 1986; Geyer,
1991. Even and odd pairs are swapped in turn: Okabe, Kawata, Okamoto and Mikami, Chemical Physics Letters 335, 2001; why in
turn: Syed, Bouchard-Côté, Deligiannidis and Doucet, JRSS B 84, 2022, arXiv 1905.02939.

    state = tempering.init(log_density, x.expand(8, *x.shape), betas=tempering.ladder(8, 0.01))
    state, info = tempering.step(log_density, state, step_size=0.3, leapfrog=8, generator=generator)
    state.x                                                                  # (B, *event), at the inverse temperature 1
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ..checks import ContractError, require_in_unit_interval, require_positive_int
from . import hmc
from .kernels import Kernel, LogDensity
from .metropolis import require_scales, require_step_size
from .path import Point, ladder, place, require_betas

__all__ = ["Info", "State", "init", "kernel", "ladder", "step"]


class State(NamedTuple):
    """K B rows, the B of the target first; nothing carries a graph.

    Args:
        points: all rows with the log-densities at both ends of the path.
        betas: inverse temperatures from 1 down, ``(K,)``.
        steps: so far: even and odd pairs take turns.
    """

    points: Point
    betas: Tensor
    steps: int

    @property
    def x(self) -> Tensor:
        """The sample: the chains at the inverse temperature 1, ``(B, *event)``."""
        return self.all_x[0]

    @property
    def all_x(self) -> Tensor:
        """The chains at every temperature, ``(K, B, *event)``."""
        rows = self.points.x
        return rows.view(len(self.betas), -1, *rows.shape[1:])


class Info(NamedTuple):
    """What one step did to each chain, and to each pair of neighbours.

    Args:
        acceptance: of the trajectories, ``(K, B)``.
        accepted: whether they were, ``(K, B)``.
        diverging: as :class:`chainfree.samplers.hmc.Info`, ``(K, B)``.
        energy_error: of the trajectories, in nats, ``(K, B)``.
        swap_acceptance: the probability with which neighbours k and k + 1 swap when it is their turn, ``(K - 1, B)``.
        swapped: whether they did, ``(K - 1, B)``; half of the pairs had their turn.
    """

    acceptance: Tensor
    accepted: Tensor
    diverging: Tensor
    energy_error: Tensor
    swap_acceptance: Tensor
    swapped: Tensor


@torch.no_grad()
def init(
    log_density: LogDensity, x: Tensor, *, betas: Sequence[float] | Tensor, base: LogDensity | None = None
) -> State:
    """Chains that start in ``x``, ``(K, B, *event)``.

    Args:
        log_density: of the target, ``(N, *event) -> (N,)`` in nats, up to a constant.
        x: for each temperature its own rows; ``x.expand(K, *x.shape)`` starts all of them in the same.
        betas: K inverse temperatures that fall from 1, such as :func:`ladder` gives; 0 only with a base.
        base: log-density at 0, in nats, up to a constant; without it the path is of powers of the target.

    Raises:
        ValueError: betas that do not fall from 1.
        ContractError: not one set of rows for each temperature, or a log-density without ``(N,)`` or a gradient.
    """
    places = require_betas(betas, base, rising=False)
    if x.dim() < 2 or len(x) != len(places):
        raise ContractError(
            f"x must be rows for each of {len(places)} temperatures, (K, B, *event), got {tuple(x.shape)}; "
            "start all in the same rows by x.expand(K, *x.shape)"
        )
    at = places.to(x)
    rows = x.detach().flatten(0, 1)
    return State(place(log_density, base, at, rows), at, 0)


@torch.no_grad()
def step(
    log_density: LogDensity,
    state: State,
    *,
    step_size: float | Tensor,
    leapfrog: int,
    base: LogDensity | None = None,
    scales: Tensor | None = None,
    jitter: float = 0.0,
    generator: torch.Generator | None = None,
) -> tuple[State, Info]:
    r"""A trajectory of HMC at every temperature, then swaps of every other pair of neighbours.

    .. math:: \min\bigl(1, e^{(\beta_k - \beta_{k+1})(u(x_{k+1}) - u(x_k))}\bigr), \qquad u = \log p - \log p_0

    All K B rows go through each forward and backward pass together; the swaps cost none. One leapfrog step is MALA.

    Args:
        log_density: of the target, as in :func:`init`.
        state: of :func:`init` or the step before, under the same densities.
        step_size: of the leapfrog, in units of x, or of ``scales``: one number or 0-d tensor for all, or ``(K,)``.
        leapfrog: L, forward and backward passes of K B rows.
        base: as in :func:`init`.
        scales: a standard deviation for each feature, ``event``, shared by the temperatures.
        jitter: share by which each chain's step size varies, as in :func:`chainfree.samplers.hmc.step`.
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
    points, at = state.points, state.betas
    require_scales(scales, points.x)
    levels = len(at)
    chains = len(points.x) // levels
    if isinstance(step_size, Tensor) and step_size.dim():
        step_size = step_size.repeat_interleave(chains)
    points, moved = hmc.move(
        partial(place, log_density, base, at),
        points,
        step_size=step_size,
        leapfrog=leapfrog,
        scales=scales,
        jitter=jitter,
        generator=generator,
    )
    acceptance, swapped = _swaps(points.gain.view(levels, chains), at, state.steps % 2, generator)
    points = points.take(_sources(swapped))
    acceptances, accepted, diverging, error = (part.view(levels, chains) for part in moved)
    info = Info(acceptances, accepted, diverging, error, acceptance, swapped)
    return State(points, at, state.steps + 1), info


def kernel(
    log_density: LogDensity,
    *,
    betas: Sequence[float] | Tensor,
    leapfrog: int,
    base: LogDensity | None = None,
    jitter: float = 0.0,
) -> Kernel[State]:
    """:func:`init` and :func:`step` with their settings filled in, for :func:`chainfree.samplers.run`.

    Every temperature starts in the same rows and gets its own step size.

    Raises:
        ValueError: a setting out of its range.
    """
    levels = len(require_betas(betas, base, rising=False))
    require_positive_int("leapfrog", leapfrog)
    require_in_unit_interval("jitter", jitter)
    return Kernel(
        init=lambda x, *, generator=None: init(log_density, x.expand(levels, *x.shape), betas=betas, base=base),
        step=partial(step, log_density, leapfrog=leapfrog, base=base, jitter=jitter),
        target=hmc.TARGET,
        shape=(levels,),
    )


def _swaps(difference: Tensor, betas: Tensor, parity: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Probabilities of swapping neighbours and which of those whose turn it is do, ``(K - 1, B)``."""
    change = (betas[:-1] - betas[1:]).unsqueeze(1) * (difference[1:] - difference[:-1])
    acceptance = torch.where(change.isnan(), 0.0, change.clamp_max(0).exp())
    uniform = torch.rand(change.shape, generator=generator, device=change.device, dtype=change.dtype)
    swapped = uniform < acceptance
    swapped[1 - parity :: 2] = False
    return acceptance, swapped


def _sources(swapped: Tensor) -> Tensor:
    """Which row goes to each place, ``(K B,)``."""
    pairs, chains = swapped.shape
    level = torch.arange(pairs + 1, device=swapped.device).unsqueeze(1).repeat(1, chains)
    level[:-1] += swapped.long()
    level[1:] -= swapped.long()
    return (level * chains + torch.arange(chains, device=swapped.device)).flatten()
