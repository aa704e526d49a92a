"""Many planar densities on one sheet."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from .arrays import Array, float_array
from .style import DENSITY_MAP, finish, new_figure, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["density_sheet"]

_PANEL = 1.3  # inches
_TOP = 99.5  # percentile of a panel's values at which its colours end


def density_sheet(densities: Mapping[str, Array], *, columns: int = 4, title: str | None = None) -> Figure:
    """Densities on square grids as small panels, each with colours of its own.

    Args:
        densities: values by name, ``(N, N)``, the first index along x, as from ``torch.cartesian_prod``; empty ones stay
            blank.
        columns: panels a line.
        title: above the picture.

    Raises:
        ValueError: no density, or one that is no square of finite numbers.
        ImportError: matplotlib is not installed.
    """
    if not densities:
        raise ValueError("there is no density to draw")
    lines = math.ceil(len(densities) / columns)
    with style():
        figure = new_figure(_PANEL * columns, (_PANEL + 0.2) * lines + 0.4)
        for place, (name, values) in enumerate(densities.items(), 1):
            axes = figure.add_subplot(lines, columns, place)
            axes.set_title(name, fontsize=8)
            axes.set_axis_off()
            table = float_array(name, values)
            if not table.size:
                axes.set_box_aspect(1)
                axes.text(0.5, 0.5, "no density", ha="center", va="center", transform=axes.transAxes, fontsize=8)
                continue
            if table.ndim != 2 or table.shape[0] != table.shape[1] or not np.isfinite(table).all():
                raise ValueError(f"{name} must be a square of finite numbers, got shape {table.shape}")
            top = max(float(np.percentile(table, _TOP)), np.finfo(float).tiny)
            axes.imshow(table.T, origin="lower", cmap=DENSITY_MAP, vmin=0, vmax=top, interpolation="nearest")
        finish(figure, title)
    return figure
