r"""The way from a base density to an energy: temperatures, and the settings of the chains at each of them.

The ladder is chosen so that each step costs the same effective sample size: Jasra, Stephens, Doucet, Tsagaris, "Inference for
Lévy-Driven Stochastic Volatility Models via Adaptive Sequential Monte Carlo", Scandinavian Journal of Statistics 38(1), 2011.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..checks import require_positive_int
from ..functional.importance import kish
from ..typing import Density, Energy
from .paths import HamiltonianPath, KernelMaker, KernelPath, Path, log_ratio

__all__ = ["AnnealingSchedule", "annealing_schedule", "systematic"]

_KEPT = 0.9  # share of the effective sample size that a step of the pilot run keeps
_MOST_STEPS = 500  # of the pilot run
_GAIN = 1.0  # how far the logarithm of the step size goes for an acceptance that is off
_HALVINGS = 50


@dataclass(frozen=True)
class AnnealingSchedule:
    r"""Temperatures from the base to the energy, and one setting of the chains' moves for each but the first.

    Args:
        betas: rising from 0, the base, to 1, the energy, ``(T + 1,)``.
        step_sizes: in units of ``scales``, ``(T,)``, for ``betas[1:]``.
        scales: standard deviations of the features, ``(T, *event)``.
        leapfrog: steps of each trajectory of Hamiltonian Monte Carlo.
        length: :math:`\Lambda`, of the path as the pilot run saw it: chains that mix perfectly have log weights of variance
            :math:`\Lambda^2 / T`.
        kernel: what moves the chains in place of Hamiltonian Monte Carlo, a step at each temperature.

    Raises:
        ValueError: betas that do not rise from 0 to 1, or settings of other lengths.
    """

    betas: Tensor
    step_sizes: Tensor
    scales: Tensor
    leapfrog: int
    length: float
    kernel: KernelMaker | None = None

    def __post_init__(self) -> None:
        _require_ladder(self.betas.tolist())
        require_positive_int("leapfrog", self.leapfrog)
        if not len(self.step_sizes) == len(self.scales) == len(self.betas) - 1:
            raise ValueError(
                f"{len(self.betas)} betas need {len(self.betas) - 1} step sizes and scales, "
                f"got {len(self.step_sizes)} and {len(self.scales)}"
            )

    def path(self, energy: Energy, base: Density) -> Path[Any]:
        """From the base to the energy, with these moves."""
        return _path(energy, base, self.leapfrog, self.kernel)


@torch.no_grad()
def annealing_schedule(
    energy: Energy,
    base: Density,
    *,
    temperatures: int = 200,
    betas: Sequence[float] | None = None,
    leapfrog: int = 8,
    kernel: KernelMaker | None = None,
    chains: int = 256,
    moves: int = 5,
    generator: torch.Generator | None = None,
) -> AnnealingSchedule:
    """A pilot run that chooses the temperatures, the step sizes and the scales, for :func:`ais` and :func:`reverse_ais`.

    Chains start in the base. The next temperature is the one at which their weights keep nine tenths of the effective
    sample size; they are resampled there and moved, which settles the step size at an acceptance of 0.8. As many
    temperatures as asked for are then spread evenly over the steps it took. The runs that follow have draws of their own
    and a schedule that is fixed, so that their estimate of Z is unbiased.

    Args:
        energy: ``(B, *event) -> (B,)``, in nats, with a gradient in the rows.
        base: a normalised density whose ``log_prob`` has a gradient, with tails at least as heavy as the energy's.
        temperatures: T, steps from the base to the energy: the more, the less the weights vary.
        betas: a ladder from 0 to 1 instead, of which only the step sizes and scales are to be found.
        leapfrog: of each trajectory, one forward and backward pass of the energy and the base each.
        kernel: moves the chains in place of trajectories, for rows that are codes or have codes: ``partial(gibbs.kernel,
            sites=sites)``, ``gibbs_with_gradients.kernel``, ``partial(block_gibbs.kernel, sites=sites)`` or another of
            :mod:`chainfree.samplers` that keeps the density. Energy and base need the gradients that it asks for.
        chains: of the pilot run.
        moves: of each chain at each step of it.
        generator: source of randomness.

    Raises:
        ValueError: a setting out of its range, weights that are NaN or infinite, or a pilot run that has not arrived
            after 500 steps: the base is far away, or the energy has no finite Z.
    """
    for name, value in (("temperatures", temperatures), ("leapfrog", leapfrog), ("chains", chains), ("moves", moves)):
        require_positive_int(name, value)
    if chains < 16:
        raise ValueError(f"chains must be at least 16 to learn scales from, got {chains}")
    if betas is not None:
        _require_ladder(betas)
    path = _path(energy, base, leapfrog, kernel)
    point = path.start(0.0, base.sample(chains, generator=generator))
    scales = _spread(point.x, None)
    # the step that keeps the acceptance falls so with dimension
    log_step = math.log(1.0 / max(1, point.x[0].numel()) ** 0.25)
    ladder, lengths, log_steps, spreads = [0.0], [0.0], [log_step], [scales]
    while ladder[-1] < 1:
        if betas is None and len(ladder) > _MOST_STEPS:
            raise ValueError(
                f"the pilot run was at beta={ladder[-1]:.2g} after {_MOST_STEPS} steps; is exp(-E) "
                "integrable? If so, give a base nearer to the energy"
            )
        ratio = log_ratio(point)
        beta = _next_beta(ratio, ladder[-1]) if betas is None else float(betas[len(ladder)])
        weights = (beta - ladder[-1]) * ratio
        lengths.append(lengths[-1] + math.sqrt(max(0.0, _finite(weights) / float(kish(weights)) - 1)))
        point = point.take(systematic(weights, generator))
        for _ in range(moves):
            point, acceptance = path.move(
                beta,
                point,
                step_size=math.exp(log_step),
                scales=scales,
                generator=generator,
            )
            # no dual averaging: the target changes with every temperature, and the mean over chains has little noise
            if path.target_acceptance is not None:
                log_step += _GAIN * (float(acceptance) - path.target_acceptance)
        scales = _spread(point.x, scales)
        ladder.append(beta)
        log_steps.append(log_step)
        spreads.append(scales)
    if betas is not None:
        return AnnealingSchedule(
            torch.tensor(ladder, dtype=torch.float64),
            torch.tensor(log_steps[1:]).exp(),
            torch.stack(spreads[1:]),
            leapfrog,
            lengths[-1],
            kernel,
        )
    found, step_sizes, scales = _refined(ladder, lengths, log_steps, torch.stack(spreads), temperatures)
    return AnnealingSchedule(found, step_sizes, scales, leapfrog, lengths[-1], kernel)


def _path(energy: Energy, base: Density, leapfrog: int, kernel: KernelMaker | None) -> Path[Any]:
    if kernel is None:
        return HamiltonianPath(energy, base, leapfrog=leapfrog)
    return KernelPath(energy, base, kernel=kernel)


def _refined(
    ladder: list[float], lengths: list[float], log_steps: list[float], spreads: Tensor, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """``count`` temperatures at equal distances along the pilot run, with step sizes and scales."""
    from scipy.interpolate import PchipInterpolator  # a sixth of a second to import

    # a path that costs nothing, as from a density to itself, has no length to divide: take the steps themselves
    places = np.asarray(lengths) if min(np.diff(lengths)) > 0 else np.arange(len(lengths), dtype=float)
    wanted = np.linspace(0, places[-1], count + 1)
    betas = PchipInterpolator(places, ladder)(wanted)  # monotone, and smooth over the orders of magnitude at the start
    betas[0], betas[-1] = 0.0, 1.0
    after = np.interp(wanted[1:], places, np.arange(len(places)))
    left = np.minimum(after.astype(int), len(places) - 2)
    share = torch.from_numpy(after - left).to(spreads)
    log_scales = spreads.log()
    between = torch.lerp(log_scales[left], log_scales[left + 1], share.view(-1, *[1] * (spreads.dim() - 1)))
    steps = torch.from_numpy(np.interp(wanted[1:], places, log_steps)).exp()
    return torch.from_numpy(betas), steps, between.exp()


def systematic(log_weights: Tensor, generator: torch.Generator | None) -> Tensor:
    """As many indices as there are weights: one of share w occurs nw times, rounded up or down (Kitagawa, 1996)."""
    count = len(log_weights)
    start = torch.rand((), generator=generator, device=log_weights.device, dtype=torch.float64)
    places = (torch.arange(count, device=log_weights.device, dtype=torch.float64) + start) / count
    return torch.searchsorted(torch.softmax(log_weights, 0).cumsum(0), places).clamp_max(count - 1)


def _next_beta(ratio: Tensor, beta: float) -> float:
    wanted = _KEPT * _finite(ratio)  # what lies outside of the support is lost at any temperature
    if kish((1 - beta) * ratio) >= wanted:
        return 1.0
    low, high = 0.0, 1 - beta
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if kish(middle * ratio) >= wanted else (low, middle)
    return min(1.0, beta + max(low, 1e-12))


def _finite(log_weights: Tensor) -> int:
    count = int(torch.isfinite(log_weights).sum())
    if not count:
        raise ValueError("the energy is infinite on all draws of the base; give a base nearer to the energy")
    return count


def _spread(x: Tensor, before: Tensor | None) -> Tensor:
    """Standard deviations of the features; of one that resampling left without any, that before or 1."""
    spread = x.std(0)
    sound = torch.isfinite(spread) & (spread > 0)
    return torch.where(sound, spread, torch.ones_like(spread) if before is None else before)


def _require_ladder(betas: Sequence[float]) -> None:
    if len(betas) < 2 or betas[0] != 0 or betas[-1] != 1 or any(b >= c for b, c in pairwise(betas)):
        raise ValueError(f"betas must rise from 0 to 1, got {len(betas)} from {list(betas[:1])} to {list(betas[-1:])}")
