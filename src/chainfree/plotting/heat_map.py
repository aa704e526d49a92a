"""A table of numbers as colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .arrays import Array, float_array
from .style import finish, new_figure, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["heat_map"]

_CELL = (0.95, 0.34)  # inches
_LABELS = 2.6  # inches for the rows' names
_DARK = 0.55  # share of the scale above which a cell's number is written in white


def heat_map(
    values: Array,
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    label: str,
    title: str | None = None,
    marked: Sequence[tuple[int, int]] = (),
) -> Figure:
    """Positive numbers on a logarithmic scale of colours, each written into its cell.

    Args:
        values: ``(R, C)``; what is not finite is left blank with a dash.
        rows, columns: their names.
        label: of the colour bar.
        title: above the picture.
        marked: cells ``(row, column)`` with a frame, such as the best of each column.

    Raises:
        ValueError: another number of names than of rows or columns, numbers that are not positive, or nothing to draw.
        ImportError: matplotlib is not installed.
    """
    table = float_array("values", values)
    if table.shape != (len(rows), len(columns)) or table.size == 0:
        raise ValueError(f"values must be {len(rows)} rows of {len(columns)} numbers, got shape {table.shape}")
    finite = np.isfinite(table)
    if not finite.any() or (table[finite] <= 0).any():
        raise ValueError("a logarithmic scale needs numbers above 0; clip them first")
    with style():
        from matplotlib.colors import LogNorm
        from matplotlib.patches import Rectangle

        low, high = float(table[finite].min()), float(table[finite].max())
        norm = LogNorm(low, max(high, low * 1.01))
        figure = new_figure(_LABELS + _CELL[0] * len(columns) + 1.0, 1.0 + _CELL[1] * len(rows))
        axes = figure.add_subplot()
        image = axes.imshow(np.where(finite, table, np.nan), aspect="auto", cmap="viridis_r", norm=norm)
        axes.grid(False)
        axes.set_xticks(range(len(columns)), columns, rotation=30, ha="left")
        axes.xaxis.tick_top()
        axes.set_yticks(range(len(rows)), rows)
        for (row, column), value in np.ndenumerate(table):
            written = f"{value:.2g}" if finite[row, column] else "-"
            dark = finite[row, column] and float(norm(value)) > _DARK
            axes.text(column, row, written, ha="center", va="center", fontsize=8, color="white" if dark else "black")
        for row, column in marked:
            axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="crimson", linewidth=2))
        figure.colorbar(image, ax=axes, label=label, pad=0.02)
        finish(figure, title)
    return figure
