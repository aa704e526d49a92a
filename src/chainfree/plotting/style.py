"""The look that all pictures share. No global state: the style holds inside ``with style():`` only."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.colorbar import Colorbar
    from matplotlib.figure import Figure

__all__ = [
    "ACCENT",
    "BLANK",
    "DENSITY_MAP",
    "DIFFERENCE_MAP",
    "ENERGY_MAP",
    "INK",
    "MUTED",
    "PALETTE",
    "box",
    "colour_bar",
    "finish",
    "legend_clear",
    "line_look",
    "new_figure",
    "style",
    "wrapped",
]

# Okabe and Ito's colours for all kinds of colour vision, without the yellow, which is too faint for a line on white
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5A5A5A")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
ACCENT = "#D55E00"
MUTED = "#6B6B6B"
BLANK = "#CDCDCD"
LEGEND_ABOVE = 8
INK = "#222222"
DENSITY_MAP = "magma"
# reversed, so that what is likely is bright here too
ENERGY_MAP = "magma_r"
DIFFERENCE_MAP = "RdBu_r"

_SETTINGS: Mapping[str, Any] = {
    "font.size": 10,
    "text.color": INK,
    "figure.facecolor": "white",
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 7,
    "axes.labelsize": 10,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#9A9A9A",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.limits": (-4, 5),
    "axes.formatter.useoffset": False,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "xtick.color": "#9A9A9A",
    "ytick.color": "#9A9A9A",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "legend.fontsize": 9,
    "legend.title_fontsize": 8.5,
    "legend.frameon": True,
    "legend.framealpha": 0.85,
    "legend.edgecolor": "none",
    "legend.handlelength": 2.4,
    "image.interpolation": "auto",
}


@contextmanager
def style() -> Iterator[None]:
    """Matplotlib's defaults and this package's look while the block runs; the caller's own settings come back after it.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as missing:
        raise ImportError("plots need matplotlib: pip install 'chainfree[plot]'") from missing
    import matplotlib.style

    # the defaults first: a caller's dark theme must not mix with colours chosen for white
    with matplotlib.style.context(["default", dict(_SETTINGS)]):
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of ``width x height`` inches on the Agg canvas, outside pyplot's register."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    # "constrained", with more room at the page's edges than by default
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.09, h_pad=0.08))
    FigureCanvasAgg(figure)
    return figure


def finish(
    figure: Figure,
    title: str | None,
    *,
    note: str | None = None,
    widths: Mapping[Axes, float] | None = None,
    heights: Mapping[Axes, float] | None = None,
) -> Figure:
    """Fit the page to the panels, add title and note, and lay everything out while the style holds.

    Ticks read their settings when they are first made, not before, hence the layout here.

    Args:
        figure: with its panels drawn.
        title: bold, above everything, at the left edge.
        note: small and grey, below everything.
        widths: inches that panels next to each other shall have; the page's width follows.
        heights: inches that panels one above the other shall have; the page's height follows.
    """
    if widths or heights:
        panels = {**(widths or {}), **(heights or {})}
        aspects = {axes: axes.get_aspect() for axes in panels}
        # with a free aspect a panel fills its place, so that two rounds settle the page; each costs a layout
        for axes in panels:
            axes.set_aspect("auto")
        for _ in range(2):
            figure.draw_without_rendering()
            width, height = figure.get_size_inches()
            right = sum(wanted - axes.get_position(True).width * width for axes, wanted in (widths or {}).items())
            up = sum(wanted - axes.get_position(True).height * height for axes, wanted in (heights or {}).items())
            figure.set_size_inches(max(width + right, 3.4), max(height + up, 1.0))
        for axes, aspect in aspects.items():
            axes.set_aspect(aspect)
    # the texts wrap at the final width, and the page grows by their height, so that the panels keep theirs
    width, height = figure.get_size_inches()
    if title is not None:
        text = wrapped(title, width, 12)
        figure.suptitle(text, x=0.1 / width, ha="left", fontsize=12, fontweight="bold")
        height += 0.1 + (text.count("\n") + 1) * 12 * 1.25 / 72
    if note is not None:
        text = wrapped(note, width, 8.5)
        figure.supxlabel(text, x=0.1 / width, ha="left", fontsize=8.5, color=MUTED)
        height += 0.1 + (text.count("\n") + 1) * 8.5 * 1.25 / 72
    figure.set_size_inches(width, height)
    figure.draw_without_rendering()
    return figure


def box(
    bounds: tuple[tuple[float, float], tuple[float, float]], *, width: float, lowest: float, highest: float
) -> tuple[float, float]:
    """Inches of a panel with equal units on both axes: ``width`` wide unless that is too flat or too tall."""
    (left, right), (bottom, top) = bounds
    ratio = (top - bottom) / (right - left)
    height = min(max(width * ratio, lowest), highest)
    return min(height / ratio, 2 * width), height


def wrapped(text: str, inches: float, points: float) -> str:
    """``text`` broken into lines that fit into ``inches`` at a font size of ``points``; its own line breaks stay."""
    # an average letter of DejaVu Sans is about 0.55 of the font size wide, in bold 0.62
    letters = max(12, int(72 * inches / (0.62 * points)))
    return "\n".join(textwrap.fill(line, letters) for line in text.splitlines())


def legend_clear(figure: Figure, axes: Axes, *, note: str | None = None) -> None:
    """A legend that covers no data: above the panel, or on the right of the figure where there are many entries."""
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > LEGEND_ABOVE:
        figure.set_figwidth(figure.get_figwidth() + 0.6 + max(map(len, (*labels, note or ""))) * 0.07)
        legend = figure.legend(handles, labels, loc="outside right upper", title=note, alignment="left")
    else:
        entry = 0.62 + 0.075 * max(map(len, labels))
        columns = max(1, min(len(labels), int((figure.get_figwidth() - 0.9) / entry)))
        legend = axes.legend(
            handles,
            labels,
            loc="lower left",
            bbox_to_anchor=(0, 1),
            borderaxespad=0.2,
            borderpad=0.2,
            columnspacing=1.6,
            ncols=columns,
            title=note,
            alignment="left",
        )
        lines = -(-len(labels) // columns) + (note is not None)
        figure.set_figheight(figure.get_figheight() + 0.19 * lines)
    legend.get_title().set_color(MUTED)


def colour_bar(
    figure: Figure, axes: Axes, image: ScalarMappable, label: str, *, size: tuple[float, float], extend: str
) -> Colorbar:
    """A colour bar as tall as ``axes``, which are ``size`` inches; ``extend`` says which of its ends are pointed."""
    # an inset follows its panel, whose aspect ratio is fixed, where a sibling would keep the height of the grid
    inset = axes.inset_axes((1 + 0.12 / size[0], 0, 0.14 / size[0], 1))
    inset.grid(False)
    bar = figure.colorbar(image, cax=inset, extend=extend, extendfrac=min(0.08, 0.13 / size[1]))
    bar.set_label(label)
    bar.outline.set_visible(False)
    return bar


def line_look(index: int) -> dict[str, Any]:
    """Colour and dashes of the ``index``-th line: all colours solid first, then all of them dashed."""
    dashes = DASHES[index // len(PALETTE) % len(DASHES)]
    return {"color": PALETTE[index % len(PALETTE)], "linestyle": dashes}
