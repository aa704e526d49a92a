"""A planar function evaluated on a grid."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from ..checks import energy_values
from .arrays import Floats

__all__ = ["Bounds", "Grid", "on_grid", "planar_grid"]

Bounds: TypeAlias = tuple[tuple[float, float], tuple[float, float]]

# rows at a time: 2^14 rows through a network of width 512 take 32 MiB per layer
_ROWS_AT_A_TIME = 1 << 14


@dataclass(frozen=True)
class Grid:
    """Points on two axes, ``x`` of shape ``(W,)`` and ``y`` of shape ``(H,)``; one stands for the area ``cell``."""

    x: Floats
    y: Floats
    bounds: Bounds
    cell: float

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, bottom, top."""
        return (*self.bounds[0], *self.bounds[1])


def planar_grid(bounds: Bounds, resolution: int, *, centres: bool) -> Grid:
    """``resolution`` points along each axis: from edge to edge, or at the centres of as many cells.

    Raises:
        ValueError: bounds that are not finite and increasing, or a resolution below 2.
    """
    try:
        (left, right), (bottom, top) = bounds
        proper = all(math.isfinite(edge) for edge in (left, right, bottom, top)) and left < right and bottom < top
    except (TypeError, ValueError):
        proper = False
    if not proper:
        raise ValueError(f"bounds must be ((x_low, x_high), (y_low, y_high)), finite and increasing, got {bounds!r}")
    if isinstance(resolution, bool) or not isinstance(resolution, int) or resolution < 2:
        raise ValueError(f"resolution must be a whole number of at least 2, got {resolution!r}")
    inset = 0.5 / resolution if centres else 0.0
    steps = np.linspace(inset, 1 - inset, resolution)
    return Grid(
        x=left + (right - left) * steps,
        y=bottom + (top - bottom) * steps,
        bounds=((float(left), float(right)), (float(bottom), float(top))),
        cell=(right - left) * (top - bottom) / resolution**2,
    )


def on_grid(function: Callable[[Tensor], Tensor], grid: Grid) -> Floats:
    """Values of ``function``, ``(B, 2) -> (B,)``, on the grid, ``(H, W)``, without a graph.

    The points come on the device and in the dtype of the largest parameter or buffer of the module that ``function``
    is, or is a method of; on the host in the default dtype otherwise.

    Raises:
        ContractError: the function does not return ``(B,)``.
    """
    owner = getattr(function, "__self__", function)
    device, dtype = torch.device("cpu"), torch.get_default_dtype()
    if isinstance(owner, nn.Module):
        # its largest: a scalar such as log Z may be kept in float64 beside float32 weights
        held = [tensor for tensor in (*owner.parameters(), *owner.buffers()) if tensor.is_floating_point()]
        if held:
            largest = max(held, key=Tensor.numel)
            device, dtype = largest.device, largest.dtype
    columns, rows = np.meshgrid(grid.x, grid.y)
    points = torch.from_numpy(np.stack([columns.ravel(), rows.ravel()], axis=1)).to(device, dtype)
    with torch.no_grad():
        values = torch.cat([energy_values(function, part) for part in torch.split(points, _ROWS_AT_A_TIME)])
    return values.cpu().double().numpy().reshape(columns.shape)
