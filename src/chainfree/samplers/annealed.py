"""Annealed sampling: a crowd of chains that starts wide and is led to the target.

Kirkpatrick, Gelatt and Vecchi, "Optimization by simulated annealing", Science 220, 1983. The weights that correct it are
those of :func:`chainfree.evaluation.ais`, along the same path, with step sizes that do not follow the chains.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ..checks import ContractError, require_in_unit_interval, require_positive, require_positive_int
from . import hmc
from .adaptation import require_target
from .kernels import LogDensity
from .metropolis import require_scales
from .path import place, require_betas

__all__ = ["AnnealInfo", "anneal"]

_GAIN = 0.5  # change of the step size's logarithm per unit of acceptance above its target


class AnnealInfo(NamedTuple):
    """How :func:`anneal` went.

    Args:
        acceptance: mean over chains and moves at each level, ``(K,)``.
        step_size: with which each level ended, ``(K,)``.
        diverging: trajectories that diverged, a 0-d tensor.
    """

    acceptance: Tensor
    step_size: Tensor
    diverging: Tensor


@torch.no_grad()
def anneal(
    log_density: LogDensity,
    x: Tensor,
    *,
    betas: Sequence[float] | Tensor,
    step_size: float,
    base: LogDensity | None = None,
    moves: int = 1,
    leapfrog: int = 8,
    scales: Tensor | None = None,
    jitter: float = 0.0,
    target: float | None = hmc.TARGET,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, AnnealInfo]:
    r"""Move chains by HMC through :math:`(1-\beta)\log p_0 + \beta\log p` with :math:`\beta` rising to 1.

    Mass is shared out between modes at the temperature at which they part, and not afterwards; the weights of
    :func:`chainfree.evaluation.ais` or :mod:`chainfree.samplers.tempering` put that right.

    The step size follows the acceptance of the level before, averaged over all chains, so that it grows and shrinks with the
    density; what that does to exactness vanishes with the number of chains, and ``target=None`` keeps it fixed.

    Args:
        log_density: of the target, ``(B, *event) -> (B,)`` in nats, up to a constant.
        x: where the chains start, ``(B, *event)``: wide, or draws of the base; left as it is.
        betas: K inverse temperatures that rise to 1; the first may be 0 with a base.
        step_size: of the leapfrog at the first level, in units of x, or of ``scales``.
        base: log-density :math:`\log p_0`, in nats, up to a constant; without it the path is of powers of the target.
        moves: trajectories at each level.
        leapfrog: steps a trajectory, one forward and backward pass each; 1 is MALA.
        scales: a standard deviation for each feature, ``event``.
        jitter: share by which each chain's step size varies, as in :func:`chainfree.samplers.hmc.step`.
        target: mean acceptance that the step size follows.
        generator: source of randomness on the device of ``x``.

    Returns:
        Where the chains ended, ``(B, *event)``, without a graph, and an :class:`AnnealInfo`.

    Raises:
        ValueError: a setting out of its range.
        ContractError: there are no chains, a log-density does not map to ``(B,)`` or has no gradient in the rows.
    """
    places = require_betas(betas, base, rising=True).to(x)
    require_positive("step_size", step_size)
    require_positive_int("moves", moves)
    require_positive_int("leapfrog", leapfrog)
    require_in_unit_interval("jitter", jitter)
    require_scales(scales, x)
    if target is not None:
        require_target(target)
    if not len(x):
        raise ContractError("there are no chains; give at least one row to start from")
    size = x.new_full((), step_size)
    acceptances, sizes = torch.zeros_like(places), torch.zeros_like(places)
    diverging = torch.zeros((), dtype=torch.long, device=x.device)
    point = place(log_density, base, places[:1], x)
    for level in range(len(places)):
        point = point._replace(betas=places[level : level + 1])
        for _ in range(moves):
            point, info = hmc.move(
                partial(place, log_density, base, point.betas),
                point,
                step_size=size,
                leapfrog=leapfrog,
                scales=scales,
                jitter=jitter,
                generator=generator,
            )
            mean = info.acceptance.mean()
            acceptances[level] += mean / moves
            diverging += info.diverging.sum()
            if target is not None:
                size = size * (_GAIN * (mean - target)).exp()
        sizes[level] = size
    return point.x, AnnealInfo(acceptances, sizes, diverging)
