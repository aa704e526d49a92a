"""The partition function: log Z by quadrature in few dimensions, by importance sampling in more."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import energy_values, log_prob_values, require_positive_int
from ..typing import Density, Energy

__all__ = ["LogZ", "log_z_importance", "log_z_quadrature"]

_ROWS_AT_A_TIME = 1 << 16


@dataclass(frozen=True)
class LogZ:
    """An estimate of log Z in nats.

    Args:
        value: the estimate.
        standard_error: of ``value``; for quadrature, its change when every other node is left out.
        effective_sample_size: of the importance weights, Kish's; the number of nodes for quadrature.
    """

    value: float
    standard_error: float
    effective_sample_size: float


@torch.no_grad()
def log_z_quadrature(
    energy: Energy,
    bounds: Sequence[tuple[float, float]],
    *,
    points: int | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> LogZ:
    r"""log Z by the trapezoid rule on a grid, for up to three dimensions.

    For a smooth energy that is high at the bounds the rule converges faster than any power of the spacing.

    Args:
        energy: ``(B, dim) -> (B,)``.
        bounds: ``(low, high)`` of each axis; they must hold practically all of the mass.
        points: nodes an axis, at least 3; 4097, 513 or 129 for one, two or three axes by default.
        device, dtype: where and how precisely the energy is evaluated; sums are float64.

    Raises:
        ValueError: more than three axes, bounds that are no interval, fewer than 3 points, or more than one part in a
            thousand of the mass in the outermost hundredth of the grid (the bounds are too narrow).

    >>> from chainfree.energies import Gaussian
    >>> g = Gaussian([0.0])
    >>> abs(log_z_quadrature(g, [(-9.0, 9.0)]).value - g.log_z) < 1e-5
    True
    """
    if not 1 <= len(bounds) <= 3:
        raise ValueError(f"quadrature is for 1 to 3 dimensions, got {len(bounds)}; use log_z_importance")
    points = (4097, 513, 129)[len(bounds) - 1] if points is None else points
    require_positive_int("points", points)
    if points < 3:
        raise ValueError(f"points must be at least 3, got {points!r}")
    for low, high in bounds:
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"bounds must be finite with low < high, got {(low, high)!r}")
    points += (points + 1) % 2  # odd, so that every other node is a grid too
    axes = [torch.linspace(low, high, points, dtype=torch.float64) for low, high in bounds]
    grid = torch.cartesian_prod(*axes).reshape(-1, len(bounds))
    parts = [
        energy_values(energy, rows.to(device=device, dtype=dtype)).double().cpu()
        for rows in grid.split(_ROWS_AT_A_TIME)
    ]
    log_density = -torch.cat(parts).view((points,) * len(bounds))
    fine = _trapezoid(log_density, bounds)
    coarse = _trapezoid(log_density[(slice(None, None, 2),) * len(bounds)], bounds)
    edge = log_density.clone()
    shell = max(1, points // 100)
    edge[(slice(shell, -shell),) * len(bounds)] = -math.inf
    share = math.exp(float(torch.logsumexp(edge.flatten(), 0) - torch.logsumexp(log_density.flatten(), 0)))
    if not share < 1e-3:
        raise ValueError(f"{share:.1%} of the mass lies on the edge of bounds={list(bounds)!r}; widen them")
    return LogZ(fine, abs(fine - coarse), float(log_density.numel()))


def _trapezoid(log_density: Tensor, bounds: Sequence[tuple[float, float]]) -> float:
    points = log_density.shape[0]
    log_weights = torch.zeros(points, dtype=torch.float64)
    log_weights[[0, -1]] = -math.log(2)
    for axis in range(len(bounds)):
        log_density = log_density + log_weights.view([-1 if a == axis else 1 for a in range(len(bounds))])
    cell = sum(math.log((high - low) / (points - 1)) for low, high in bounds)
    return float(torch.logsumexp(log_density.flatten(), 0)) + cell


@torch.no_grad()
def log_z_importance(
    energy: Energy,
    proposal: Density,
    *,
    samples: int = 100_000,
    generator: torch.Generator | None = None,
) -> LogZ:
    r"""log Z by importance sampling: :math:`\hat Z = \frac1N \sum_n e^{-E(x_n)} / q(x_n)`, :math:`x_n \sim q`.

    :math:`\hat Z` is unbiased, so its logarithm is too low on average. The standard error is the delta method's; trust
    neither when the effective sample size is small: a proposal that misses a mode does not know what it missed.

    Args:
        energy: ``(B, *event) -> (B,)``.
        proposal: any density; it should have heavier tails than the energy.
        samples: N, at least 2.
        generator: source of randomness.

    Raises:
        ValueError: fewer than 2 samples, or no sample with a finite weight.
    """
    if samples < 2:
        raise ValueError(f"samples must be at least 2, got {samples!r}")
    parts = []
    for start in range(0, samples, _ROWS_AT_A_TIME):
        x = proposal.sample(min(_ROWS_AT_A_TIME, samples - start), generator=generator)
        parts.append(-energy_values(energy, x).double() - log_prob_values(proposal, x).double())
    log_weights = torch.cat(parts)
    if not bool((log_weights < torch.inf).all()) or not bool(torch.isfinite(log_weights).any()):
        raise ValueError(
            "importance weights are NaN, infinite or all zero; does the proposal cover where the energy is finite?"
        )
    log_sum = torch.logsumexp(log_weights, 0)
    ess = float(torch.exp(2 * log_sum - torch.logsumexp(2 * log_weights, 0)))
    # var(Z^)/Z^2 = (1/ESS - 1/N) * N/(N-1): the delta method for the logarithm
    variance = (1 / ess - 1 / samples) * samples / (samples - 1)
    return LogZ(float(log_sum) - math.log(samples), math.sqrt(max(0.0, variance)), ess)
