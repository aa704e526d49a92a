"""Energy of a planar model as filled contours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..checks import require_positive
from ..typing import Energy
from .arrays import Array, float_array, require_no_nan, require_planar
from .grid import Bounds, on_grid, planar_grid
from .style import ENERGY_MAP, box, colour_bar, finish, new_figure, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["landscape"]

_BANDS = 24


def landscape(
    energy: Energy,
    *,
    bounds: Bounds,
    samples: Array | None = None,
    resolution: int = 300,
    clip: float = 12.0,
    title: str | None = None,
) -> Figure:
    r"""Filled contours of :math:`E(x) - \min E`, the minimum taken over the grid; bright is likely.

    Put a module with dropout or batch statistics into ``eval()`` first.

    Args:
        energy: ``(B, 2) -> (B,)`` in nats; ``+inf`` is allowed where there is no mass.
        bounds: ``((x_low, x_high), (y_low, y_high))``.
        samples: points to draw over it, ``(N, 2)``; those outside the bounds are not seen.
        resolution: grid points along each axis.
        clip: nats above the minimum from which everything has one colour; the colour bar then ends in a point.
        title: above the picture.

    Returns:
        A figure with one panel.

    Raises:
        ValueError: bad bounds, a NaN or ``-inf`` energy, no finite energy, samples that are not planar.
        ImportError: matplotlib is not installed.
    """
    require_positive("clip", clip)
    grid = planar_grid(bounds, resolution, centres=False)
    points = None if samples is None else float_array("samples", samples)
    if points is not None:
        require_planar("samples", points)
    values = on_grid(energy, grid)
    require_no_nan("the energy on the grid", values, infinite=True)
    lowest = values.min()
    if not np.isfinite(lowest):
        raise ValueError(f"the lowest energy on the grid is {lowest}; move the bounds to where the energy is finite")
    above = values - lowest
    highest = float(above.max())
    top = min(clip, highest) or 1.0  # a flat energy still gets a scale

    with style():
        from matplotlib.ticker import MaxNLocator

        (left, right), (bottom, upper) = grid.bounds
        size = box(grid.bounds, width=5.0, lowest=2.0, highest=7.0)
        figure = new_figure(size[0] + 1.3, size[1] + 0.7)
        axes = figure.add_subplot()
        # contours interpolate, and an infinity would leave holes instead of the clipped colour
        drawn = np.minimum(above, 4 * clip)
        extend = "max" if highest > clip else "neither"
        ticks = [tick for tick in MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(0, top) if tick <= top * (1 + 1e-9)]
        filled = axes.contourf(
            grid.x,
            grid.y,
            drawn,
            levels=np.linspace(0, top, _BANDS + 1),
            cmap=ENERGY_MAP,
            extend=extend,
        )
        axes.contour(grid.x, grid.y, drawn, levels=ticks[1:], colors="white", linewidths=0.5, alpha=0.4)
        if points is not None:
            # dark on the bright valleys, with a light rim for the strays on dark ground
            dot = float(np.clip(6000 / max(len(points), 1), 3, 16))
            axes.scatter(
                points[:, 0], points[:, 1], s=dot, c="#0B4F6C", alpha=0.75, linewidths=0.35, edgecolors="white"
            )
        axes.set(xlim=(left, right), ylim=(bottom, upper), aspect="equal", xlabel="$x_1$", ylabel="$x_2$")
        axes.grid(False)
        bar = colour_bar(figure, axes, filled, "energy above its minimum (nats)", size=size, extend=extend)
        bar.set_ticks(ticks)
        bar.ax.yaxis.set_major_formatter("{x:.3g}")
        return finish(figure, title, widths={axes: size[0]}, heights={axes: size[1]})
