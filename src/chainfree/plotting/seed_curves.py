"""Curves with a band over repeated runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .arrays import Array, Floats, float_array, require_no_nan, require_vector
from .style import INK, MUTED, finish, legend_clear, line_look, new_figure, style

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

__all__ = ["curves"]

Direction = Literal["horizontal", "vertical"]


def curves(
    series: Mapping[str, tuple[Array, Array]],
    *,
    x_label: str,
    y_label: str,
    title: str | None = None,
    log_x: bool = False,
    log_y: bool = False,
    reference: Mapping[str, float | tuple[Direction, float]] | None = None,
    band: Literal["min-max", "std"] = "min-max",
) -> Figure:
    """Each series' mean over seeds, with a band that the legend names.

    Args:
        series: name to ``(x, y)``: ``x`` of shape ``(T,)`` and ``y`` of shape ``(S, T)``, a row per seed, or ``(T,)``.
        x_label, y_label: with units.
        title: above the picture.
        log_x, log_y: logarithmic axes.
        reference: name to the height of a horizontal line, or to ``("vertical", x)`` or ``("horizontal", y)``.
        band: between the lowest and the highest seed, or one standard deviation (over S - 1) around the mean.

    Returns:
        A figure with one panel.

    Raises:
        ValueError: no series, shapes that do not fit, values not finite, or not positive on a logarithmic axis.
        ImportError: matplotlib is not installed.
    """
    if not series:
        raise ValueError("series is empty; give at least one name with its (x, y)")
    if band not in ("min-max", "std"):
        raise ValueError(f"band must be 'min-max' or 'std', got {band!r}")
    summaries = {name: _summary(name, x, y, band) for name, (x, y) in series.items()}
    lines = {name: _line(name, value) for name, value in (reference or {}).items()}
    for name, (x, _, low, _, _) in summaries.items():
        if log_x and x.min() <= 0:
            raise ValueError(f"x of {name!r} goes down to {x.min():.3g}; drop these points or set log_x=False")
        if log_y and low.min() <= 0:
            remedy = "set log_y=False" + (" or band='min-max'" if band == "std" else "")
            raise ValueError(f"y of {name!r} goes down to {low.min():.3g} with its band; {remedy}")
    for name, (direction, value) in lines.items():
        if value <= 0 and (log_x if direction == "vertical" else log_y):
            raise ValueError(f"reference {name!r} is {value:.3g} on a logarithmic axis; leave it out")

    with style():
        figure = new_figure(6.4, 4.0)
        axes = figure.add_subplot()
        for index, (name, (x, mean, low, high, seeds)) in enumerate(summaries.items()):
            look = line_look(index)
            # few points: show where they are; a single one would be no line at all
            marker: dict[str, Any] = (
                {"marker": "o", "markersize": 4.5, "markeredgecolor": "white"} if len(x) <= 16 else {}
            )
            axes.plot(x, mean, label=name, zorder=3, **look, **marker)
            if seeds > 1:
                axes.fill_between(x, low, high, color=look["color"], alpha=0.18, linewidth=0, zorder=2)
        for index, (name, (direction, value)) in enumerate(lines.items()):
            dashes = ((0, (4, 3)), (0, (1, 2)), (0, (7, 2, 1, 2)))[index % 3]
            draw = axes.axvline if direction == "vertical" else axes.axhline
            draw(value, label=name, color=INK if index < 3 else MUTED, linewidth=1.1, linestyle=dashes, zorder=2.5)
        axes.margins(x=0.02)
        if log_x:
            axes.set_xscale("log")
            _plain_ticks(axes.xaxis, np.concatenate([x for x, *_ in summaries.values()]))
        if log_y:
            axes.set_yscale("log")
            _plain_ticks(axes.yaxis, np.concatenate([edge for _, _, *edges, _ in summaries.values() for edge in edges]))
        axes.set(xlabel=x_label, ylabel=y_label)
        legend_clear(figure, axes, note=_note([seeds for *_, seeds in summaries.values()], band))
        return finish(figure, title)


def _plain_ticks(axis: Axis, values: Floats) -> None:
    """Plain numbers on a logarithmic axis: at the values themselves where these are few, at 2 and 5 on a short axis."""
    from matplotlib.axis import XAxis
    from matplotlib.ticker import LogLocator, NullFormatter

    distinct = np.unique(values)
    gaps = np.diff(np.log(distinct))
    if len(distinct) <= 8 and isinstance(axis, XAxis) and (not len(gaps) or gaps.min() > 0.07 * gaps.sum()):
        axis.set_ticks(list(distinct))
        axis.set_ticks([], minor=True)
    elif distinct[-1] < 30 * distinct[0]:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_minor_formatter(NullFormatter())
    if distinct[0] >= 1e-4 and distinct[-1] < 1e5:
        axis.set_major_formatter("{x:g}")


def _summary(
    name: str, x: Array, y: Array, band: Literal["min-max", "std"]
) -> tuple[Floats, Floats, Floats, Floats, int]:
    """x, mean, lower and upper edge of the band, each ``(T,)``, and the number of seeds."""
    across, values = float_array(f"x of {name!r}", x), float_array(f"y of {name!r}", y)
    require_vector(f"x of {name!r}", across)
    rows = values[None] if values.ndim == 1 else values
    if rows.ndim != 2 or rows.shape[0] == 0 or rows.shape[1] != len(across):
        raise ValueError(
            f"y of {name!r} must have shape (T,) or (S, T) with T = {len(across)} as in x, got {values.shape}; "
            "one row per seed"
        )
    require_no_nan(f"x of {name!r}", across)
    require_no_nan(f"y of {name!r}", rows)
    mean = rows.mean(axis=0)
    if band == "min-max" or len(rows) == 1:
        return across, mean, rows.min(axis=0), rows.max(axis=0), len(rows)
    deviation = rows.std(axis=0, ddof=1)
    return across, mean, mean - deviation, mean + deviation, len(rows)


def _line(name: str, value: float | tuple[Direction, float]) -> tuple[Direction, float]:
    direction, where = value if isinstance(value, tuple) else ("horizontal", value)
    if direction not in ("horizontal", "vertical") or not math.isfinite(where):
        raise ValueError(
            f"reference {name!r} must be a finite number, ('horizontal', y) or ('vertical', x), got {value!r}"
        )
    return direction, float(where)


def _note(seeds: list[int], band: Literal["min-max", "std"]) -> str | None:
    repeated = sorted({count for count in seeds if count > 1})
    if not repeated:
        return None
    count = str(repeated[0]) if len(repeated) == 1 else f"{repeated[0]} to {repeated[-1]}"
    return f"mean of {count} seeds, band: " + ("min to max" if band == "min-max" else "± 1 std")
