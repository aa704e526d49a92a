r"""Step size and metric found while the chains warm up.

The step size by dual averaging: Hoffman and Gelman, "The No-U-Turn Sampler", JMLR 15, 2014, section 3.2. The metric and the
windows it is learnt in as in Stan's reference manual, but with variances pooled over all chains: many chains need few steps.
"""

from __future__ import annotations

import math
from typing import Generic, NamedTuple

import torch
from torch import Tensor

from ..checks import ContractError, require_positive
from .kernels import Kernel, StateT

__all__ = [
    "Adaptation",
    "Moments",
    "WarmUp",
    "adapt",
    "add_moments",
    "require_target",
    "scales_from",
    "start_adaptation",
    "start_moments",
    "warm_up",
]

_SHRINKAGE = 0.05  # γ, t0 and κ of Hoffman and Gelman, whose values these are
_DELAY = 10
_FORGETTING = 0.75

_PRIOR_DRAWS = 5.0  # Stan's: the weight of the small variance below, in draws
_PRIOR_VARIANCE = 1e-3
_FIRST, _WINDOWS = (
    0.15,
    (0.25, 0.35),
)  # shares of the steps: to find the typical set, to learn the metric; the rest settles


class Adaptation(NamedTuple):
    """A step size on its way to a target acceptance; all but ``steps`` are tensors that stay on their device.

    Their shape is that of the step size: ``()``, or ``(K,)`` where each of K temperatures has its own.

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


def start_adaptation(step_size: float | Tensor, like: Tensor) -> Adaptation:
    """Begin at ``step_size``, in the kernel's units, on the device and in the type of ``like``.

    Raises:
        ValueError: ``step_size`` is a number, but not a finite one above 0. The values of a tensor are not looked at.
    """
    if isinstance(step_size, Tensor):
        start = step_size.detach().to(like)
    else:
        require_positive("step_size", step_size)
        start = like.new_full((), step_size)
    return Adaptation(start, start, torch.zeros_like(start), start, 0)


@torch.no_grad()
def adapt(adaptation: Adaptation, acceptance: Tensor, *, target: float) -> Adaptation:
    r"""Dual averaging: shorter steps where chains were accepted less often than ``target``, ever more slowly.

    The chains share one step size. While it adapts they do not keep p exactly; discard those steps and go on with
    ``average``.

    Args:
        adaptation: of :func:`start_adaptation` or the step before.
        acceptance: of the step taken with ``adaptation.step_size``, ``(B,)``, or ``(K, B)`` for K step sizes.
        target: mean acceptance aimed at. In many dimensions 0.574 mixes best for MALA (Roberts and Rosenthal, 1998), 0.651
            and above for HMC (Beskos et al., 2013).

    Raises:
        ValueError: ``target`` is not between 0 and 1.
    """
    require_target(target)
    count = adaptation.steps + 1
    share = 1 / (count + _DELAY)
    error = (1 - share) * adaptation.error + share * (target - acceptance.mean(-1).to(adaptation.error))
    # the centre lies above the start: too short a step costs more than too long a one
    log_step = math.log(10) + adaptation.start.log() - math.sqrt(count) / _SHRINKAGE * error
    weight = count**-_FORGETTING
    log_average = weight * log_step + (1 - weight) * adaptation.average.log()
    return Adaptation(log_step.exp(), log_average.exp(), error, adaptation.start, count)


class Moments(NamedTuple):
    """Mean and variance per feature of everything seen so far.

    Args:
        rows: so far.
        mean: ``event``.
        squares: sum of squared deviations from the mean, ``event``.
    """

    rows: int
    mean: Tensor
    squares: Tensor


def start_moments(x: Tensor) -> Moments:
    """Of no rows yet, for rows like those of ``x``, ``(B, *event)``."""
    return Moments(0, torch.zeros_like(x[0]), torch.zeros_like(x[0]))


@torch.no_grad()
def add_moments(moments: Moments, x: Tensor) -> Moments:
    """Add the rows of ``x``, ``(B, *event)``: no sum of large squares (Chan, Golub, LeVeque, 1983)."""
    count = moments.rows + len(x)
    mean = x.mean(0)
    apart = mean - moments.mean
    squares = (x - mean).square_().sum(0) + apart.square() * (moments.rows * len(x) / count)
    return Moments(count, moments.mean + apart * (len(x) / count), moments.squares + squares)


def scales_from(moments: Moments) -> Tensor:
    r"""Standard deviations per feature, ``event``, from variances shrunk as in Stan.

    .. math:: \hat\sigma^2 = \frac{n}{n+5}\, s^2 + \frac{5}{n+5}\, 10^{-3}

    Raises:
        ValueError: fewer than two rows.
    """
    if moments.rows < 2:
        raise ValueError(f"scales need at least 2 rows, got {moments.rows}; add more")
    weight = moments.rows / (moments.rows + _PRIOR_DRAWS)
    return (weight * moments.squares / (moments.rows - 1) + (1 - weight) * _PRIOR_VARIANCE).sqrt()


class WarmUp(NamedTuple, Generic[StateT]):
    """What :func:`warm_up` found.

    Args:
        state: of the chains.
        step_size: to go on with, on the device: of shape ``()`` or ``(K,)``.
        scales: standard deviations per feature, ``event``, to go on with; ``None`` where they were not asked for.
    """

    state: StateT
    step_size: Tensor
    scales: Tensor | None


@torch.no_grad()
def warm_up(
    kernel: Kernel[StateT],
    x: Tensor,
    *,
    steps: int,
    step_size: float | Tensor,
    target: float | None = None,
    metric: bool = True,
    generator: torch.Generator | None = None,
) -> WarmUp[StateT]:
    """Walk to where the mass is, and find the step size and the metric on the way.

    The first 15 % of the steps adapt the step size alone. Two windows of 25 and 35 % collect the variance of each feature
    over all chains, and at the end of each the metric is renewed and the step size sought anew. The last 25 % settle it. All
    chains share both. The steps of the warm-up do not keep the density exactly: draw after it.

    Args:
        kernel: of ``mala.kernel(...)``, ``hmc.kernel(...)`` and so on.
        x: where the chains start, ``(B, *event)``.
        steps: in all; 0 only starts the chains.
        step_size: at the start, in the kernel's units.
        target: mean acceptance aimed at; the kernel's own by default. A kernel without one (no step is ever rejected)
            keeps its step size unless a target is given here.
        metric: whether to learn ``scales``. Then the step size is in units of them.
        generator: source of randomness on the device of ``x``.

    Raises:
        ValueError: a setting out of its range.
        ContractError: there are no chains.
    """
    if not isinstance(steps, int) or steps < 0:
        raise ValueError(f"steps must be a whole number of at least 0, got {steps!r}")
    target = kernel.target if target is None else target
    if target is not None:
        require_target(target)
    if not len(x):
        raise ContractError("there are no chains; give at least one row to start from")
    state = kernel.init(x, generator=generator)
    size = start_adaptation(step_size, x)
    if kernel.shape != size.step_size.shape:  # one for each temperature
        size = start_adaptation(size.step_size.expand(kernel.shape), x)
    scales: Tensor | None = None
    for learn, count in _stages(steps, metric and steps * len(x) > 1):
        moments = start_moments(x)
        for _ in range(count):
            state, info = kernel.step(state, step_size=size.step_size, scales=scales, generator=generator)
            if target is not None:
                size = adapt(size, info.acceptance, target=target)
            if learn:
                moments = add_moments(moments, state.x)
        if learn and moments.rows > 1:
            renewed = scales_from(moments)
            # the step size is in units of the metric: keep its length in x, in the mean of the logarithms
            ratio = (renewed if scales is None else renewed / scales).log().mean().exp()
            scales = renewed
            # a kernel that keeps its step size keeps the number, which is then in units of the metric
            if target is not None:
                size = start_adaptation(size.average / ratio**kernel.power, x)
    return WarmUp(state, size.average, scales)


def _stages(steps: int, metric: bool) -> list[tuple[bool, int]]:
    """Whether to learn the metric, and for how many steps."""
    if not metric:
        return [(False, steps)]
    windows = [int(share * steps) for share in _WINDOWS]
    first = int(_FIRST * steps)
    return [(False, first), *((True, count) for count in windows), (False, steps - first - sum(windows))]


def require_target(target: float) -> None:
    """Raise ``ValueError`` unless ``target`` is a rate between 0 and 1."""
    if not 0 < target < 1:
        raise ValueError(f"target must be an acceptance rate between 0 and 1, got {target!r}")
