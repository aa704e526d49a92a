"""One-dimensional curves in a grid of panels: slices of a loss, learned against true energies."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..checks import require_positive_int
from .arrays import Array, Floats, float_array, require_no_nan, require_vector
from .style import MUTED, finish, line_look, new_figure, style, wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

__all__ = ["Panel", "line_panels"]


@dataclass(frozen=True)
class Panel:
    """One panel of :func:`line_panels`.

    Args:
        title: above the panel.
        x: ``(T,)``.
        curves: name to values ``(T,)``; a NaN or an infinity leaves a gap. One name has one colour in all panels.
        x_label, y_label: with units.
        vertical: where to draw a vertical line, such as the true value of a parameter.
        vertical_label: what the legend calls it.

    Raises:
        ValueError: no curve, shapes that do not fit, an ``x`` or a ``vertical`` that is not finite.
    """

    title: str
    x: Array
    curves: Mapping[str, Array]
    _: KW_ONLY
    x_label: str = ""
    y_label: str = ""
    vertical: float | None = None
    vertical_label: str | None = None

    def __post_init__(self) -> None:
        across = float_array(f"x of panel {self.title!r}", self.x)
        require_vector(f"x of panel {self.title!r}", across)
        require_no_nan(f"x of panel {self.title!r}", across)
        if not self.curves:
            raise ValueError(f"panel {self.title!r} has no curves; give at least one name with its values")
        for name, values in self.curves.items():
            shape = float_array(f"curve {name!r}", values).shape
            if shape != across.shape:
                raise ValueError(
                    f"curve {name!r} of panel {self.title!r} must have shape {across.shape} as x has, got {shape}; "
                    "evaluate it on that x"
                )
        if self.vertical is not None and not math.isfinite(self.vertical):
            raise ValueError(
                f"vertical of panel {self.title!r} must be finite, got {self.vertical!r}; use None for none"
            )


def line_panels(
    panels: Sequence[Panel],
    *,
    columns: int | None = None,
    share_y: bool = False,
    title: str | None = None,
) -> Figure:
    """Panels in a grid with one legend below them all.

    Args:
        panels: in reading order.
        columns: panels in a row; up to four by default, in rows of equal length where that is possible.
        share_y: one y axis for all, to compare heights.
        title: above the picture.

    Returns:
        A figure with one panel for each.

    Raises:
        ValueError: no panels.
        ImportError: matplotlib is not installed.
    """
    if not panels:
        raise ValueError("panels is empty; give at least one Panel")
    if columns is None:
        columns = _columns(len(panels))
    require_positive_int("columns", columns)
    across = min(columns, len(panels))
    down = -(-len(panels) // across)
    names = list(dict.fromkeys(name for panel in panels for name in panel.curves))

    with style():
        side = {1: 6.0, 2: 4.3}.get(across, 3.4)
        rows_of_legend = -(-len(names) // 4)
        figure = new_figure(across * side + 0.3, down * (side * 0.62 + 0.5) + 0.2 * rows_of_legend + 0.2)
        handles: dict[str, Line2D] = {}
        places = figure.subplots(down, across, squeeze=False, sharey=share_y).ravel()
        for axes, panel in zip(places, panels, strict=False):
            x = float_array("x", panel.x)
            for name, values in panel.curves.items():
                index = names.index(name)
                (line,) = axes.plot(x, _gaps(float_array(name, values)), zorder=3, **line_look(index))
                handles.setdefault(name, line)
            if panel.vertical is not None:
                line = axes.axvline(panel.vertical, color=MUTED, linestyle=(0, (4, 3)), linewidth=1.2)
                if panel.vertical_label is not None:
                    handles.setdefault(panel.vertical_label, line)
            axes.set(xlabel=panel.x_label, ylabel=panel.y_label)
            if share_y:
                axes.label_outer()
            axes.set_title(wrapped(panel.title, side - 0.4, 9.5))
            axes.margins(x=0.02)
        for axes in places[len(panels) :]:
            axes.remove()
        figure.legend(
            list(handles.values()),
            list(handles),
            loc="outside lower center",
            ncols=min(len(handles), max(1, int(across * side / 1.9))),
        )
        return finish(figure, title)


def _columns(count: int) -> int:
    if count <= 4:
        return count if count != 4 else 4
    return next((columns for columns in (4, 3) if count % columns == 0), 4 if count > 6 else 3)


def _gaps(values: Floats) -> Floats:
    return np.where(np.isfinite(values), values, np.nan)
