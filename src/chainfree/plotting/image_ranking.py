"""Images in the order of their energies."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..checks import require_positive_int
from .arrays import Array, Floats, float_array, require_no_nan, require_vector
from .style import ACCENT, finish, new_figure, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ranked_images"]

_GAP = 0.12  # between images, in widths of one
_LINE = 0.3  # height of the number below an image, in widths of one
_RIM = 0.03  # around a block, for the frames


def ranked_images(
    images: Array,
    energies: Array,
    *,
    labels: Array | None = None,
    rows: int = 2,
    columns: int = 12,
    title: str | None = None,
) -> Figure:
    """The lowest energies in the upper half of the rows, the highest in the lower half, rising from left to right.

    With fewer than ``rows x columns`` images each is shown once. All share one grey scale, from the lowest pixel shown
    to the highest.

    Args:
        images: ``(N, H, W)``, ``(N, 1, H, W)`` or, in colour, ``(N, 3, H, W)``.
        energies: ``(N,)`` in nats, written below each image.
        labels: ``(N,)``; those with 1 are anomalies and get a frame.
        rows: an even number, half for each end.
        columns: images in a row.
        title: above the picture.

    Returns:
        A figure with two panels, or with one for a single image.

    Raises:
        ValueError: shapes that do not fit, no image, an odd number of rows, NaN energies, pixels that are not finite.
        ImportError: matplotlib is not installed.
    """
    require_positive_int("rows", rows)
    require_positive_int("columns", columns)
    if rows % 2:
        raise ValueError(f"rows must be even, half for the lowest and half for the highest energies, got {rows}")
    pixels = float_array("images", images)
    if pixels.ndim == 3:
        pixels = pixels[:, None]
    if pixels.ndim != 4 or pixels.shape[1] not in (1, 3) or pixels.size == 0:
        raise ValueError(
            f"images must have shape (N, H, W), (N, 1, H, W) or (N, 3, H, W) with N > 0, got {pixels.shape}; "
            "reshape flat rows"
        )
    nats = float_array("energies", energies)
    require_vector("energies", nats)
    require_no_nan("energies", nats, infinite=True)
    flags = np.zeros(len(nats)) if labels is None else float_array("labels", labels)
    for name, given in (("energies", nats), ("labels", flags)):
        if given.shape != (len(pixels),):
            raise ValueError(f"{name} must have shape ({len(pixels)},), one for each image, got {given.shape}")
    order = np.argsort(nats, kind="stable")
    lower = order[: min(rows // 2 * columns, (len(order) + 1) // 2)]
    upper = order[len(lower) :][-(rows // 2 * columns) :]
    shown = pixels[np.concatenate([lower, upper])]
    require_no_nan("images", shown)
    floor, span = float(shown.min()), float(np.ptp(shown)) or 1.0

    with style():
        height, width = pixels.shape[2:]
        across = min(columns, max(len(lower), len(upper)))
        blocks = [("lowest energies (nats)", lower), ("highest energies (nats)", upper)]
        blocks = [(name, chosen) for name, chosen in blocks if len(chosen)]
        inch = float(np.clip(10.0 / across, 0.62, 1.3))
        step = height / width + _GAP + _LINE
        heights = [(-(-len(chosen) // across) * step - _GAP + _RIM) * inch for _, chosen in blocks]
        wide = (across * (1 + _GAP) - _GAP + 2 * _RIM) * inch
        figure = new_figure(wide + 0.2, sum(heights) + 0.4 * len(blocks))
        drawn = list(figure.subplots(len(blocks), 1, squeeze=False, height_ratios=heights)[:, 0])
        written = _written(nats[np.concatenate([lower, upper])])
        for axes, (name, chosen) in zip(drawn, blocks, strict=True):
            scaled = (pixels[chosen] - floor) / span
            texts = [written(value) for value in nats[chosen]]
            _block(axes, scaled, texts, flags[chosen] == 1, across)
            axes.set_title(name)
        text = "Energy rises from left to right, row by row."
        if labels is not None:
            ends = zip(("lowest", "highest"), (lower, upper), strict=True)
            count = ", ".join(f"{int((flags[end] == 1).sum())} of the {len(end)} {name}" for name, end in ends)
            text += f" Orange frame: an anomaly by its label ({count})."
        return finish(figure, title, note=text, widths={drawn[0]: wide}, heights=dict(zip(drawn, heights, strict=True)))


def _block(axes: Axes, images: Floats, texts: list[str], framed: Floats | np.ndarray, across: int) -> None:
    """Images ``(n, C, H, W)`` on one panel: an image is one unit wide, so axes per image are not needed."""
    from matplotlib.patches import Rectangle

    height = images.shape[2] / images.shape[3]
    step = height + _GAP + _LINE
    for index, image in enumerate(images):
        left, top = index % across * (1 + _GAP), -(index // across) * step
        extent = (left, left + 1, top - height, top)
        axes.imshow(
            np.moveaxis(image, 0, -1).squeeze(), cmap="gray", vmin=0, vmax=1, extent=extent, interpolation="nearest"
        )
        anomaly = bool(framed[index])
        colour, thick = (ACCENT, 2.2) if anomaly else ("#BBBBBB", 0.5)
        axes.add_patch(
            Rectangle((left, top - height), 1, height, fill=False, edgecolor=colour, linewidth=thick, clip_on=False)
        )
        axes.text(
            left + 0.5,
            top - height - 0.06,
            texts[index].replace("-", "\N{MINUS SIGN}"),
            ha="center",
            va="top",
            fontsize=8,
        )
    bottom = _GAP - -(-len(images) // across) * step
    axes.set(xlim=(-_RIM, across * (1 + _GAP) - _GAP + _RIM), ylim=(bottom, _RIM), aspect="equal", anchor="NW")
    axes.axis("off")


def _written(values: Floats) -> Callable[[float], str]:
    """One number format for all, short enough to stand below an image."""
    finite = np.abs(values[np.isfinite(values)])
    largest = float(finite.max()) if finite.size else 0.0
    if largest >= 1e5 or 0 < largest < 1e-2:
        return "{:.1e}".format
    return f"{{:.{0 if largest >= 1000 else 1 if largest >= 10 else 2}f}}".format
