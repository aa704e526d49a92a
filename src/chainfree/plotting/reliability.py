"""How often classifiers are right, by how sure they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..checks import require_positive_int
from ..evaluation.calibration import Reliability
from .style import INK, finish, line_look, new_figure, style, wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["reliability_diagrams"]

_PANEL, _LETTERS = 2.5, 9.5  # inches, points
_FEWEST = 1e-3  # share of the rows below which a bin's accuracy is mostly noise


def reliability_diagrams(panels: Mapping[str, Reliability], *, columns: int = 4, title: str | None = None) -> Figure:
    """Accuracy over confidence, a panel each: on the diagonal answers are as often right as they are sure, below it less.

    Points are bins, their size the share of the rows that are in them; bins with less than a thousandth are left out.

    Args:
        panels: name to :func:`chainfree.evaluation.reliability`.
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
            confidence, accuracy, shares = (np.asarray(part, dtype=float) for part in found)
            seen = shares >= _FEWEST
            look = line_look(0)
            axes.plot([0, 1], [0, 1], color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=2)
            axes.vlines(
                confidence[seen], confidence[seen], accuracy[seen], color=look["color"], linewidth=2.2, alpha=0.35
            )
            axes.scatter(
                confidence[seen],
                accuracy[seen],
                s=12 + 240 * shares[seen],
                color=look["color"],
                alpha=0.8,
                clip_on=False,
                zorder=3,
            )
            title_lines = f"{wrapped(name.replace('_', ' '), _PANEL, _LETTERS)}\nECE {100 * found.expected_error:.1f}%"
            axes.set_title(title_lines, fontsize=_LETTERS)
            axes.set(xlim=(0, 1.03), ylim=(0, 1.03))
            axes.set_aspect("equal")
            if index % across == 0:
                axes.set_ylabel("accuracy")
            if index >= len(panels) - across:
                axes.set_xlabel("confidence")
                axes.tick_params(labelbottom=True)
        return finish(figure, title)
