r"""Annealed importance sampling, from a base to an energy and back: bounds on log Z from both sides.

Neal, "Annealed Importance Sampling", Statistics and Computing 11, 2001, arXiv physics/9803008. Burda, Grosse, Salakhutdinov,
"Accurate and Conservative Estimates of MRF Log-likelihood using Reverse Annealing", AISTATS 2015, arXiv 1412.8566. Grosse,
Ghahramani, Adams, "Sandwiching the Marginal Likelihood Using Bidirectional Monte Carlo", 2015, arXiv 1511.02543. With
resampling: Del Moral, Doucet, Jasra, "Sequential Monte Carlo Samplers", JRSS B 68(3), 2006, arXiv cond-mat/0212648.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..checks import require_finite, require_in_unit_interval, require_positive_int
from ..functional.importance import kish
from ..typing import Density, Energy
from .annealing import AnnealingSchedule, annealing_schedule, systematic
from .log_z import LogZ, log_mean_weight
from .paths import EndsT, Path, log_ratio

__all__ = ["Annealed", "ais", "reverse_ais"]


class Annealed(NamedTuple):
    """Where the chains ended and what they say of log Z.

    Args:
        log_z: the estimate. On average it is too low from :func:`ais` and too high from :func:`reverse_ais`.
        x: ends of the chains, ``(chains, *event)``: weighted draws of the energy, or of the base for the reverse.
        log_weights: ``(chains,)``, float64; their mean weight is an unbiased estimate of Z, or of 1/Z for the reverse.
        families: which of the starts each chain descends from, ``(chains,)``: its own, where nothing was resampled.
        acceptance: mean over the chains at each temperature they moved at, in that order: ``(T,)`` from the first above the
            base to the energy, and ``(T - 1,)`` back from the last before the energy for the reverse.
    """

    log_z: LogZ
    x: Tensor
    log_weights: Tensor
    families: Tensor
    acceptance: Tensor


@torch.no_grad()
def ais(
    energy: Energy,
    base: Density,
    *,
    schedule: AnnealingSchedule | None = None,
    chains: int = 1000,
    resample_below: float = 0.0,
    generator: torch.Generator | None = None,
) -> Annealed:
    r"""Annealed importance sampling: chains from the base through :math:`f_\beta = q^{1-\beta} e^{-\beta E}` to the energy.

    .. math:: w = \prod_{t=1}^T \frac{f_{\beta_t}(x_{t-1})}{f_{\beta_{t-1}}(x_{t-1})}, \qquad E[w] = Z,

    where each :math:`x_t` is a trajectory of Hamiltonian Monte Carlo, or a step of the schedule's kernel, from
    :math:`x_{t-1}` that keeps :math:`f_{\beta_t}`. With a kernel of codes the rows may be codes.
    The estimate of Z is unbiased however badly the chains mix, so its logarithm is a stochastic lower bound: it exceeds log Z
    by b nats with probability :math:`e^{-b}` at most. What no chain has found is missing from it without a trace.

    Args:
        energy: ``(B, *event) -> (B,)``, in nats, with a gradient in the rows, unless the schedule's kernel needs none.
        base: q, a normalised density with draws of the energy's type and device.
        schedule: of :func:`annealing_schedule`; made by it with its defaults if left out. It must not be chosen by results
            of the same chains.
        chains: side by side; one evaluation of the energy takes them all.
        resample_below: resample the chains by their weights wherever the effective sample size falls below this share of
            them; 0 for never. Z stays unbiased. The error and effective size are then those of families of chains
            with a common ancestor.
        generator: source of randomness on the device of the base's draws.

    Raises:
        ValueError: a setting out of its range, fewer than two chains, or weights that are NaN, infinite or all zero.
        ContractError: the energy's shape is not ``(B,)``, or it has no gradient in the rows.

    >>> from chainfree.energies import DoubleWell, Gaussian
    >>> base, energy = Gaussian(torch.zeros(2)), DoubleWell(2)
    >>> found = ais(energy, base, chains=100, generator=torch.Generator().manual_seed(0)).log_z
    >>> abs(found.value - energy.log_z) < 4 * found.standard_error
    True
    """
    _require(chains, resample_below)
    if schedule is None:
        schedule = annealing_schedule(energy, base, generator=generator)
    path = schedule.path(energy, base)
    start = path.start(0.0, base.sample(chains, generator=generator))
    end = _anneal(path, start, schedule, resample_below, generator, down=False)
    return Annealed(log_mean_weight(end.log_weights, families=end.families), *end)


@torch.no_grad()
def reverse_ais(
    energy: Energy,
    base: Density,
    rows: Tensor,
    *,
    schedule: AnnealingSchedule | None = None,
    settle: int = 0,
    resample_below: float = 0.0,
    families: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Annealed:
    r"""Annealed importance sampling backwards, from draws of the energy to the base: a stochastic upper bound on log Z.

    The weights of the way back have the mean 1/Z, so :math:`-\log` of their mean is too high on average, and below log Z by b
    nats with probability :math:`e^{-b}` at most. **This holds for rows that are independent draws of**
    :math:`e^{-E}/Z`, and only as far as they are. Data are, where the energy is the truth. Draws of a chain, or of
    :func:`ais`, share what the chain has not found, and then this bounds the Z of what it found.

    Args:
        energy, base, schedule, resample_below, generator: as for :func:`ais`; the schedule of the way there.
        rows: draws of the energy, ``(chains, *event)``, at least two, one for each chain; left as they are. Not rows that
            the base was fitted to: a component of it that sits on one of them breaks the bound.
        settle: moves at the energy's own temperature before the way back. Exact draws stay exact, others come nearer.
        families: which of them descend from a common ancestor and so are not independent, ``(chains,)`` whole numbers below
            their count; only the standard error changes.

    Raises:
        ValueError: as :func:`ais`, or rows that are not finite.
        ContractError: as :func:`ais`.
    """
    _require(len(rows), resample_below)
    require_finite("rows", rows)
    if not isinstance(settle, int) or settle < 0:
        raise ValueError(f"settle must be a whole number of at least 0, got {settle!r}")
    if schedule is None:
        schedule = annealing_schedule(energy, base, generator=generator)
    path = schedule.path(energy, base)
    start = path.start(1.0, rows)
    for _ in range(settle):
        start, _ = _move(path, start, schedule, len(schedule.step_sizes) - 1, generator)
    end = _anneal(path, start, schedule, resample_below, generator, down=True)
    common = end.families if families is None else families.to(end.families)[end.families]
    back = log_mean_weight(end.log_weights, families=common)
    log_z = LogZ(-back.value, back.standard_error, back.effective_sample_size)
    return Annealed(log_z, end.x, end.log_weights, common, end.acceptance)


class _Ends(NamedTuple):
    x: Tensor
    log_weights: Tensor
    families: Tensor
    acceptance: Tensor


def _anneal(
    path: Path[EndsT],
    point: EndsT,
    schedule: AnnealingSchedule,
    resample_below: float,
    generator: torch.Generator | None,
    *,
    down: bool,
) -> _Ends:
    """Weigh and move the chains along the ladder, up from the base or down from the energy."""
    device, count, steps = point.x.device, len(point.x), len(schedule.step_sizes)
    betas = schedule.betas.tolist()
    log_weights = torch.zeros(count, device=device, dtype=torch.float64)
    families = torch.arange(count, device=device)
    acceptance = []
    for t in reversed(range(steps)) if down else range(steps):
        # up: the weight of going to betas[t + 1], then a move there; down: the move there first, then the way from it
        if down and t < steps - 1:
            point, accepted = _move(path, point, schedule, t, generator)
            acceptance.append(accepted)
        change = betas[t] - betas[t + 1] if down else betas[t + 1] - betas[t]
        log_weights = log_weights + change * log_ratio(point)
        if not down:
            if resample_below:
                point, log_weights, families = _resampled(point, log_weights, families, resample_below, generator)
            point, accepted = _move(path, point, schedule, t, generator)
            acceptance.append(accepted)
        elif resample_below and t:
            point, log_weights, families = _resampled(point, log_weights, families, resample_below, generator)
    rates = torch.stack(acceptance) if acceptance else log_weights.new_zeros(0)
    return _Ends(point.x, log_weights, families, rates)


def _move(
    path: Path[EndsT], point: EndsT, schedule: AnnealingSchedule, t: int, generator: torch.Generator | None
) -> tuple[EndsT, Tensor]:
    """One move at the temperature after step t, and its mean acceptance."""
    return path.move(
        float(schedule.betas[t + 1]),
        point,
        step_size=float(schedule.step_sizes[t]),
        scales=schedule.scales[t],
        generator=generator,
    )


def _resampled(
    point: EndsT, log_weights: Tensor, families: Tensor, below: float, generator: torch.Generator | None
) -> tuple[EndsT, Tensor, Tensor]:
    count = len(log_weights)
    # a device-to-host sync at each temperature
    if not bool(kish(log_weights) < below * count):
        return point, log_weights, families
    index = systematic(log_weights, generator)
    mean = torch.logsumexp(log_weights, 0) - math.log(count)
    return point.take(index), mean.expand(count), families[index]


def _require(chains: int, resample_below: float) -> None:
    require_positive_int("chains", chains)
    if chains < 2:
        raise ValueError(f"a standard error needs at least 2 chains, got {chains}")
    require_in_unit_interval("resample_below", resample_below)
