"""How often classifiers are right, by how sure they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..checks import require_positive_int
from ..evaluation.calibration import Reliability
from .style import INK, finish, line_look, new_figure, style, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["reliability_diagrams"]

_PANEL, _LETTERS = 2.5, 9.5  # inches, points
_FEWEST = 1e-3  # share of the rows below which a bin's accuracy is mostly noise


def reliability_diagrams(
    panels: Mapping[str, Reliability],
    *,
    after: Mapping[str, Reliability] | None = None,
    columns: int = 4,
    title: str | None = None,
) -> Figure:
    """Accuracy over confidence, a panel each: on the diagonal answers are as often right as they are sure, below it less.

    Points are bins, their size the share of the rows that are in them; bins with less than a thousandth are left out.

    Args:
        panels: name to :func:`chainfree.evaluation.reliability`.
        after: of the same names, what it is when logits are scaled by a temperature, in another colour.
        columns: panels in a row.
        title: above the picture.

    Raises:
        ValueError: no panels, or ``columns`` below 1.
        ImportError: matplotlib is not installed.
    """
    if not panels:
        raise ValueError("panels is empty; give at least one name with its reliability")
    require_positive_int("columns", columns)
    across = min(columns, len(panels))
    down = -(-len(panels) // across)
    with style():
        figure = new_figure(_PANEL * across, _PANEL * down)
        grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        for index, (axes, (name, found)) in enumerate(zip(grid.flat, panels.items(), strict=False)):
            axes.plot([0, 1], [0, 1], color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=2)
            error = f"ECE {100 * found.expected_error:.1f}%"
            if after is not None and name in after:
                _bins(axes, after[name], str(line_look(1)["color"]))
                error = f"{error}, scaled {100 * after[name].expected_error:.1f}%"
            _bins(axes, found, str(line_look(0)["color"]))
            axes.set_title(f"{wrapped(name.replace('_', ' '), _PANEL, _LETTERS)}\n{error}", fontsize=_LETTERS)
            axes.set(xlim=(0, 1.03), ylim=(0, 1.03))
            axes.set_aspect("equal")
            if index % across == 0:
                axes.set_ylabel("accuracy")
            if index >= len(panels) - across:
                axes.set_xlabel("confidence")
                axes.tick_params(labelbottom=True)
        return finish(figure, title)


def _bins(axes: Axes, found: Reliability, color: str) -> None:
    confidence, accuracy, shares = (np.asarray(part, dtype=float) for part in found)
    seen = shares >= _FEWEST
    axes.vlines(confidence[seen], confidence[seen], accuracy[seen], color=color, linewidth=2.2, alpha=0.35)
    size = 12 + 240 * shares[seen]
    axes.scatter(confidence[seen], accuracy[seen], s=size, color=color, alpha=0.8, clip_on=False, zorder=3)
