"""A model's density beside the true one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..typing import Density, Energy
from .arrays import Array, Floats, float_array, require_no_nan, require_planar
from .grid import Bounds, Grid, on_grid, planar_grid
from .style import BLANK, DENSITY_MAP, DIFFERENCE_MAP, box, colour_bar, finish, new_figure, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["density_beside_truth"]

_MASS = 0.999
# times the end of a colour scale: beyond it the colour no longer changes
_FAR = 100.0


def density_beside_truth(
    energy: Energy,
    log_z: float,
    density: Density,
    *,
    bounds: Bounds,
    samples: Array | None = None,
    resolution: int = 300,
    title: str | None = None,
) -> Figure:
    r"""True density, the model's :math:`e^{-E(x)}/Z`, and :math:`\log p_{model} - \log p_{true}`.

    The first two share one colour scale, that of the truth; where the model exceeds it, the colour bar ends in a point.
    The difference is drawn on the smallest region with 99.9 % of the true mass in the frame, on a scale centred on
    zero that ends at the 99th percentile of its size, or at 0.1 nats. The mass in the frame is written above each
    density: a model's that is far from the truth's tells of a bad log Z or of mass where there should be none.

    Args:
        energy: the model's, ``(B, 2) -> (B,)`` in nats; ``+inf`` is allowed.
        log_z: the model's log partition function in nats.
        density: the truth; its ``log_prob`` may be ``-inf``.
        bounds: ``((x_low, x_high), (y_low, y_high))``.
        samples: points to draw over the model's panel, ``(N, 2)``.
        resolution: grid cells along each axis; each has the colour of its centre.
        title: above the picture.

    Returns:
        A figure with three panels.

    Raises:
        ValueError: bad bounds, a log Z that is not finite, NaNs, samples that are not planar, or no true mass here.
        ImportError: matplotlib is not installed.
    """
    log_z = float(log_z)
    if not math.isfinite(log_z):
        raise ValueError(f"log_z must be a finite number of nats, got {log_z!r}; estimate it again")
    grid = planar_grid(bounds, resolution, centres=True)
    points = None if samples is None else float_array("samples", samples)
    if points is not None:
        require_planar("samples", points)
    truth = on_grid(density.log_prob, grid)
    model = -on_grid(energy, grid) - log_z
    for name, values in (("the true log-density", truth), ("the model's log-density", model)):
        require_no_nan(name, values, infinite=True)
        if (values == np.inf).any():
            raise ValueError(f"{name} is infinite on the grid; move the bounds away from its singularity")
    shown = _region(truth)
    inside = model[shown] - truth[shown]
    sizes = np.abs(inside)
    sizes = sizes[np.isfinite(sizes)]
    limit = max(0.1, float(np.percentile(sizes, 99))) if sizes.size else 0.1
    difference = np.full_like(truth, np.nan)
    difference[shown] = np.clip(inside, -_FAR * limit, _FAR * limit)
    top = float(np.exp(truth.max()))
    with np.errstate(over="ignore"):  # a model far too sure of itself, drawn as the colour above the scale
        panels = {"true density": np.exp(truth), "model density": np.exp(model)}

    with style():
        (left, right), (bottom, upper) = grid.bounds
        size = box(grid.bounds, width=3.3, lowest=1.0, highest=5.0)
        # room for the titles, which start at the panel's left edge
        width = max(size[0], 2.6)
        figure = new_figure(3 * width + 2.4, size[1] + 1.1)
        axes = list(figure.subplots(1, 3, sharex=True, sharey=True))
        exceeds = float(panels["model density"].max()) > top * (1 + 1e-6)
        for panel, (name, values) in zip(axes[:2], panels.items(), strict=True):
            # infinities would be holes in the picture, and far values blur its rescaling
            drawn = np.minimum(values, _FAR * top)
            image = panel.imshow(drawn, origin="lower", extent=grid.extent, cmap=DENSITY_MAP, vmin=0, vmax=top)
            panel.set_title(f"{name}\nmass in the frame: {_mass(values, grid)}")
        if points is not None:
            dot = float(np.clip(3000 / max(len(points), 1), 1.5, 10))
            axes[1].scatter(points[:, 0], points[:, 1], s=dot, c="white", alpha=0.55, linewidths=0)
        colour_bar(figure, axes[1], image, "density", size=size, extend="max" if exceeds else "neither")
        image = axes[2].imshow(
            difference, origin="lower", extent=grid.extent, cmap=DIFFERENCE_MAP, vmin=-limit, vmax=limit
        )
        axes[2].set_facecolor(BLANK)
        axes[2].set_title("log-density: model minus true\nred: too much, blue: too little")
        below, over = float(inside.min()) < -limit, float(inside.max()) > limit
        extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
        colour_bar(figure, axes[2], image, "nats", size=size, extend=extend[below, over])
        for panel in axes:
            panel.set(xlim=(left, right), ylim=(bottom, upper), aspect="equal", anchor="W", xlabel="$x_1$")
            panel.grid(False)
        axes[0].set_ylabel("$x_2$")
        text = f"Grey: outside the smallest region with {_MASS:.1%} of the true mass in the frame."
        note = text if points is None else f"{text} White points: samples."
        return finish(figure, title, note=note, widths=dict.fromkeys(axes, width), heights={axes[0]: size[1]})


def _mass(density: Floats, grid: Grid) -> str:
    mass = float(density.sum() * grid.cell)
    return f"{mass:.3f}" if mass < 1000 else f"{mass:.2e}"


def _region(log_density: Floats) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Cells of the smallest region with ``_MASS`` of the mass on the grid, with cells as dense as its thinnest."""
    peak = log_density.max()
    if not np.isfinite(peak):
        raise ValueError("the true density is zero on the whole grid; move the bounds to where it has mass")
    falling = np.sort(log_density, axis=None)[::-1]
    mass = np.cumsum(np.exp(falling - peak))
    thinnest = falling[np.searchsorted(mass, _MASS * mass[-1])]
    region: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] = log_density >= thinnest
    return region
