"""log Z by quadrature, in few dimensions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..checks import energy_values, require_positive_int
from ..typing import Energy
from .log_z import LogZ

__all__ = ["GridLogZ", "grid_log_z", "log_z_quadrature"]

_EDGE_SHARE = 1e-3  # of the mass: with more of it there, the bounds are too narrow
_NODES_AT_A_TIME = 1 << 16


class GridLogZ(NamedTuple):
    """An estimate on a grid and what tells whether to believe it.

    Args:
        log_z: the estimate.
        edge_share: share of the mass in the outermost hundredth of the grid.
        lowest_energy: of all nodes.
    """

    log_z: LogZ
    edge_share: float
    lowest_energy: float


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

    For a smooth energy that is high at the bounds the rule converges faster than any power of the spacing. What is narrower
    than the spacing it may miss altogether, with an error that says nothing of it.

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
    found = grid_log_z(energy, bounds, points=points, device=device, dtype=dtype)
    if not found.edge_share < _EDGE_SHARE:
        raise ValueError(f"{found.edge_share:.1%} of the mass lies on the edge of bounds={list(bounds)!r}; widen them")
    return found.log_z


@torch.no_grad()
def grid_log_z(
    energy: Energy,
    bounds: Sequence[tuple[float, float]],
    *,
    points: int | None,
    device: torch.device | str,
    dtype: torch.dtype,
) -> GridLogZ:
    """As :func:`log_z_quadrature`, with what it is judged by."""
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
        for rows in grid.split(_NODES_AT_A_TIME)
    ]
    log_density = -torch.cat(parts).view((points,) * len(bounds))
    fine = _trapezoid(log_density, bounds)
    coarse = _trapezoid(log_density[(slice(None, None, 2),) * len(bounds)], bounds)
    edge = log_density.clone()
    shell = max(1, points // 100)
    edge[(slice(shell, -shell),) * len(bounds)] = -math.inf
    share = math.exp(float(torch.logsumexp(edge.flatten(), 0) - torch.logsumexp(log_density.flatten(), 0)))
    log_z = LogZ(fine, abs(fine - coarse), float(log_density.numel()))
    return GridLogZ(log_z, share, -float(log_density.max()))


def _trapezoid(log_density: Tensor, bounds: Sequence[tuple[float, float]]) -> float:
    points = log_density.shape[0]
    log_weights = torch.zeros(points, dtype=torch.float64)
    log_weights[[0, -1]] = -math.log(2)
    for axis in range(len(bounds)):
        log_density = log_density + log_weights.view([-1 if a == axis else 1 for a in range(len(bounds))])
    cell = sum(math.log((high - low) / (points - 1)) for low, high in bounds)
    return float(torch.logsumexp(log_density.flatten(), 0)) + cell
