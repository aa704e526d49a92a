"""Energies of several groups of rows, overlaid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..checks import require_positive_int
from .arrays import Array, Floats, float_array, require_no_nan, require_vector
from .style import finish, legend_clear, line_look, new_figure, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["energy_histogram"]


def energy_histogram(
    groups: Mapping[str, Array],
    *,
    x_label: str = "energy (nats)",
    title: str | None = None,
    bins: int | None = None,
) -> Figure:
    """Share of each group per bin, all groups in the same bins, the medians as dashed lines.

    The bins span every group's 0.5th to 99.5th percentile, so that a few extreme rows do not flatten the picture; what
    lies beyond, infinities included, is counted in the outermost bins, and the caption says how much that is.

    Args:
        groups: name to values ``(N,)``.
        x_label: with units.
        title: above the picture; the place for an AUROC.
        bins: number of bins; by default twice the cube root of the smallest group, between 30 and 60.

    Returns:
        A figure with one panel.

    Raises:
        ValueError: no groups, an empty group, NaNs, or a group without a finite value.
        ImportError: matplotlib is not installed.
    """
    if not groups:
        raise ValueError("groups is empty; give at least one name with its values")
    if bins is not None:
        require_positive_int("bins", bins)
    values = {name: float_array(f"group {name!r}", given) for name, given in groups.items()}
    for name, rows in values.items():
        require_vector(f"group {name!r}", rows)
        require_no_nan(f"group {name!r}", rows, infinite=True)
        if not np.isfinite(rows).any():
            raise ValueError(f"group {name!r} has no finite value; leave it out")
    if bins is None:
        bins = int(np.clip(2 * min(len(rows) for rows in values.values()) ** (1 / 3), 30, 60))
    edges = _edges(values, bins)
    beyond = sum(int(((rows < edges[0]) | (rows > edges[-1])).sum()) for rows in values.values())
    total = sum(len(rows) for rows in values.values())

    with style():
        figure = new_figure(6.4, 3.6)
        axes = figure.add_subplot()
        for index, (name, rows) in enumerate(values.items()):
            counts, _ = np.histogram(np.clip(rows, edges[0], edges[-1]), bins=edges)
            share = counts / len(rows)
            look = line_look(index)
            median = float(np.median(rows))
            axes.stairs(share, edges, fill=True, color=look["color"], alpha=0.28 if len(values) <= 4 else 0.12)
            axes.stairs(
                share,
                edges,
                color=look["color"],
                linestyle=look["linestyle"],
                linewidth=1.4,
                label=f"{name}: {len(rows):,} rows, median {_short(median)}",
            )
            at = float(np.clip(median, edges[0], edges[-1]))
            axes.axvline(at, color=look["color"], linestyle=(0, (4, 2)), linewidth=1.3)
        axes.set(xlabel=x_label, ylabel="share of the group per bin", xlim=(edges[0], edges[-1]), ylim=(0, None))
        legend_clear(figure, axes)
        text = "Dashed: medians."
        if beyond:
            text += f" The outermost bins also count the {beyond:,} of {total:,} rows beyond them."
        return finish(figure, title, note=text)


def _short(value: float) -> str:
    return (f"{value:,.2f}" if abs(value) < 1e5 else f"{value:.3g}").replace("-", "\N{MINUS SIGN}")


def _edges(values: Mapping[str, Floats], bins: int) -> Floats:
    # per group, not pooled: a hundred anomalies among a million rows would all lie beyond the pooled percentile
    ends = np.array([np.percentile(rows[np.isfinite(rows)], [0.5, 99.5]) for rows in values.values()])
    low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
    # a spread that float64 cannot divide into bins counts as a single value
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        margin = max(0.5, 1e-6 * abs(low))
        low, high = low - margin, high + margin
    return np.linspace(low, high, bins + 1)
