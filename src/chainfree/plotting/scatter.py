"""Samples in the plane, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from .arrays import Array, float_array, require_no_nan, require_planar
from .grid import Bounds
from .style import box, finish, new_figure, style, wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["sample_panels"]


def sample_panels(samples: Mapping[str, Array], *, bounds: Bounds, title: str | None = None) -> Figure:
    """One panel for each set of samples, with the same axes and the same number of points.

    Args:
        samples: by name, each ``(N, 2)``; the sets are cut to the length of the shortest.
        bounds: ``(low, high)`` of both axes.
        title: above the picture.

    Raises:
        ValueError: no samples, or rows that are not planar or NaN.
        ImportError: matplotlib is not installed.
    """
    if not samples:
        raise ValueError("samples is empty; give at least one set")
    arrays = {name: float_array(name, values) for name, values in samples.items()}
    for name, values in arrays.items():
        require_planar(name, values)
        require_no_nan(name, values)
    shortest = min(len(values) for values in arrays.values())
    with style():
        width, height = box(bounds, width=2.9, lowest=1.5, highest=4.0)
        figure = new_figure(len(arrays) * (width + 0.35), height + 0.7)
        places = figure.subplots(1, len(arrays), squeeze=False, sharex=True, sharey=True).ravel()
        for axes, (name, values) in zip(places, arrays.items(), strict=True):
            rows = values[:shortest]
            axes.plot(rows[:, 0], rows[:, 1], ".", markersize=1.6, alpha=0.35, markeredgewidth=0, color="#1f4e79")
            axes.set(xlim=bounds[0], ylim=bounds[1], aspect="equal")
            axes.set_title(wrapped(name, width, 9.5))
        return finish(figure, title)
