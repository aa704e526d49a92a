"""Loss, energies and learning rate of a run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .arrays import Floats
from .style import INK, MUTED, finish, line_look, new_figure, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["training_curves"]

# longer series get a running mean, over a fiftieth of them, on top of the noise
_LONG = 250
_WINDOWS = 50


def training_curves(records: Sequence[Mapping[str, float]], *, title: str | None = None) -> Figure:
    """One panel each for losses, energies and the learning rate; a panel without data is left out.

    A key is drawn by the words in it: ``lr`` (``lr``, ``lr_energy``), else ``loss`` (``loss``, ``held_out_loss``,
    ``generator/loss``), else ``energy`` (``energy_data``, ``energy_draws``); other keys are not drawn. Where a resumed run
    wrote a step again, the later record counts. Values that are not finite leave a gap and a cross at the bottom.

    Args:
        records: the lines of ``metrics.jsonl`` in their order, each with ``step`` and any of the keys above.
        title: above the picture.

    Returns:
        A figure with one to three panels.

    Raises:
        ValueError: a record without a step, a value that is not a number, or nothing to draw.
        ImportError: matplotlib is not installed.
    """
    panels = _panels(records)
    with style():
        figure = new_figure(1.2 + 4.2 * len(panels), 3.5)
        drawn = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, (name, series) in zip(drawn, panels.items(), strict=True):
            _panel(axes, name, series)
        return finish(figure, title)


def _panels(records: Sequence[Mapping[str, float]]) -> dict[str, dict[str, tuple[Floats, Floats]]]:
    """Panel to key to steps and values, both ``(T,)``, sorted by step."""
    found: dict[str, dict[str, dict[float, float]]] = {"loss": {}, "energy": {}, "lr": {}}
    for number, record in enumerate(records):
        if "step" not in record:
            raise ValueError(f"record {number} has no 'step'; write one into every line of metrics.jsonl")
        for key, value in record.items():
            words = re.split(r"[^a-z]+", key.lower())
            # a rate first: that of a player called energy is a rate
            panel = "lr" if "lr" in words else next((name for name in found if name in words), None)
            if panel is not None:
                step, number_value = _number(number, "step", record["step"]), _number(number, key, value)
                found[panel].setdefault(key, {})[step] = number_value
    panels: dict[str, dict[str, tuple[Floats, Floats]]] = {}
    for panel, keys in found.items():
        for key, values in keys.items():
            steps = sorted(values)
            pair = np.array(steps, dtype=np.float64), np.array([values[step] for step in steps], dtype=np.float64)
            panels.setdefault(panel, {})[key] = pair
    if not any(np.isfinite(values).any() for keys in panels.values() for _, values in keys.values()):
        raise ValueError(
            f"none of {len(records)} records has a finite loss, energy or lr to draw; "
            "log at least 'step' and 'loss', or log more often"
        )
    return panels


def _number(record: int, key: str, value: object) -> float:
    if value is None:  # how strict JSON writes a NaN
        return float("nan")
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    if not plain:
        raise ValueError(f"record {record} has {key}={value!r}; log plain numbers")
    return float(value)  # type: ignore[arg-type]


def _panel(axes: Axes, name: str, series: Mapping[str, tuple[Floats, Floats]]) -> None:
    from matplotlib.ticker import MaxNLocator

    window = 1
    for index, (key, (steps, values)) in enumerate(series.items()):
        look = line_look(index)
        finite = np.isfinite(values)
        drawn = np.where(finite, values, np.nan)
        label = key.replace("_", " ")
        # a learning rate has no noise
        if len(steps) > _LONG and name != "lr":
            window = len(steps) // _WINDOWS
            axes.plot(steps, drawn, color=look["color"], alpha=0.22, linewidth=0.7)
            middle, mean = _running_mean(steps[finite], values[finite], window)
            axes.plot(middle, mean, label=label, zorder=3, **look)
        else:
            marker: dict[str, Any] = (
                {"marker": "o", "markersize": 4, "markeredgecolor": "white"} if len(steps) <= 25 else {}
            )
            axes.plot(steps, drawn, label=label, zorder=3, **look, **marker)
        if not finite.all():
            axes.plot(
                steps[~finite],
                np.full(int((~finite).sum()), 0.02),
                transform=axes.get_xaxis_transform(),
                linestyle="",
                marker="x",
                color=INK,
                label=f"{label} not finite",
            )
    every = np.concatenate([values for _, values in series.values()])
    every = every[np.isfinite(every)]
    # over more than two decades a linear axis shows only the first steps; a loss may be negative, and stays linear then
    if name == "loss" and every.size and every.min() > 0 and every.max() > 100 * every.min():
        axes.set_yscale("log")
    axes.set_title({"loss": "loss", "energy": "mean energy (nats)", "lr": "learning rate"}[name])
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.margins(x=0.02)
    if name != "lr" or len(series) > 1:
        note = f"bold: running mean of {window} records" if window > 1 else None
        axes.legend(loc="best", title=note, alignment="left").get_title().set_color(MUTED)


def _running_mean(steps: Floats, values: Floats, window: int) -> tuple[Floats, Floats]:
    """Means over ``window`` records in a row and of their steps, ``(T - window + 1,)``; whole windows only."""
    window = min(window, max(1, len(values)))
    weights = np.full(window, 1 / window)
    if not len(values):
        return steps, values
    return np.convolve(steps, weights, mode="valid"), np.convolve(values, weights, mode="valid")
