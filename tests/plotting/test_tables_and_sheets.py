"""Heat maps and sheets of densities: what is drawn, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from chainfree import plotting

pytest.importorskip("matplotlib")


def test_a_heat_map_writes_every_number_and_frames_the_marked() -> None:
    figure = plotting.heat_map(
        [[0.001, 1.0], [float("nan"), 0.25]], rows=["one", "two"], columns=["a", "b"], label="nats", marked=[(0, 1)]
    )
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == ["0.001", "1", "-", "0.25"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["one", "two"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b"]
    (frame,) = axes.patches
    assert (frame.get_x(), frame.get_y()) == (0.5, -0.5)
    shown = axes.images[0].get_array()
    assert shown is not None and np.ma.getmaskarray(np.ma.masked_invalid(shown)).sum() == 1
    assert axes.images[0].norm.vmin == 0.001 and axes.images[0].norm.vmax == 1.0


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([[1.0, 2.0]], "2 rows of 2 numbers"),
        ([[1.0, 0.0], [1.0, 1.0]], "above 0"),
        ([[float("nan")] * 2] * 2, "above 0"),
    ],
)
def test_heat_maps_without_a_logarithm_are_refused(values: list[list[float]], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        plotting.heat_map(values, rows=["one", "two"], columns=["a", "b"], label="nats")


def test_a_sheet_has_a_panel_each_with_x_to_the_right() -> None:
    values = torch.zeros(5, 5)
    values[4, 0] = 1.0  # large x, small y
    figure = plotting.density_sheet({"corner": values, "nothing": [], "third": values + 1}, columns=2)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["corner", "nothing", "third"]
    image = figure.axes[0].images[0]
    shown = image.get_array()
    assert shown is not None and shown[0, 4] == 1.0 and image.origin == "lower"
    assert not figure.axes[1].images


def test_sheets_of_nothing_or_of_no_squares_are_refused() -> None:
    with pytest.raises(ValueError, match="no density to draw"):
        plotting.density_sheet({})
    with pytest.raises(ValueError, match="bad must be a square of finite numbers"):
        plotting.density_sheet({"bad": torch.zeros(2, 3)})
    with pytest.raises(ValueError, match="bad must be a square of finite numbers"):
        plotting.density_sheet({"bad": torch.full((2, 2), float("nan"))})
