"""Images in a grid without gaps between their frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..checks import require_positive_int
from .arrays import Array, float_array, require_no_nan
from .style import finish, new_figure, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["image_grid"]

_LETTER = 0.075  # inches that one takes


def image_grid(
    images: Array,
    *,
    columns: int = 10,
    low: float = 0.0,
    high: float = 1.0,
    title: str | None = None,
    row_names: Sequence[str] = (),
) -> Figure:
    """Grey or colour images in rows of ``columns``.

    Args:
        images: ``(N, C, H, W)`` with one or three channels.
        columns: images in a row.
        low, high: values shown as black and as full brightness; what lies beyond is clipped.
        title: above the picture.
        row_names: to the left of the rows, one for each or none.

    Raises:
        ValueError: no images, another shape, NaN, ``low`` not below ``high``, or another number of names than of rows.
        ImportError: matplotlib is not installed.
    """
    values = float_array("images", images)
    if values.ndim != 4 or values.shape[1] not in (1, 3) or not len(values):
        raise ValueError(f"images must be (N, 1 or 3, H, W) with N above 0, got {values.shape}")
    require_positive_int("columns", columns)
    require_no_nan("images", values)
    if not low < high:
        raise ValueError(f"low must be below high, got {low!r} and {high!r}")
    count, channels, height, width = values.shape
    down = -(-count // columns)
    if row_names and len(row_names) != down:
        raise ValueError(f"row_names must be {down}, one for each row, got {len(row_names)}")
    canvas = np.ones((down * (height + 2) + 2, columns * (width + 2) + 2, channels))
    scaled = np.clip((values - low) / (high - low), 0, 1).transpose(0, 2, 3, 1)
    for index, image in enumerate(scaled):
        top, left = (index // columns) * (height + 2) + 2, (index % columns) * (width + 2) + 2
        canvas[top : top + height, left : left + width] = image
    with style():
        inches = min(9.0, 0.62 * columns)
        beside = _LETTER * max((len(name) for name in row_names), default=0)
        figure = new_figure(inches + beside + 0.2, inches * canvas.shape[0] / canvas.shape[1] + 0.2)
        axes = figure.subplots()
        axes.imshow(canvas if channels == 3 else canvas[:, :, 0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_axis_off()
        for row, name in enumerate(row_names):
            axes.text(-6, row * (height + 2) + 2 + height / 2, name, ha="right", va="center", fontsize=9)
        return finish(figure, title)
