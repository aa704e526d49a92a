"""Heat maps and sheets of densities: what is drawn, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from chainfree import plotting
from chainfree.evaluation import Reliability

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


def test_reliability_has_a_panel_for_each_name_and_its_points_are_the_bins() -> None:
    confidence = torch.tensor([0.0, 0.5, 0.9], dtype=torch.float64)
    accuracy = torch.tensor([0.0, 0.4, 0.6], dtype=torch.float64)
    shares = torch.tensor([0.0, 0.25, 0.75], dtype=torch.float64)
    found = Reliability(confidence, accuracy, shares)
    figure = plotting.reliability_diagrams({"self_training of something long": found, "b": found}, columns=1)
    panels = figure.axes
    assert len(panels) == 2
    assert panels[0].get_title(loc="left").endswith("ECE 25.0%")  # 0.25 * 0.1 + 0.75 * 0.3
    points = np.asarray(panels[0].collections[-1].get_offsets())
    np.testing.assert_allclose(points, [[0.5, 0.4], [0.9, 0.6]])  # the empty bin is none
    scaled = Reliability(confidence, confidence, shares)
    figure = plotting.reliability_diagrams({"a": found, "b": found}, after={"a": scaled})
    first, second = figure.axes
    assert first.get_title(loc="left").endswith("ECE 25.0%, scaled 0.0%")
    assert second.get_title(loc="left").endswith("ECE 25.0%")
    assert len(first.collections) == 4 and len(second.collections) == 2
    np.testing.assert_allclose(np.asarray(first.collections[1].get_offsets()), [[0.5, 0.5], [0.9, 0.9]])
    np.testing.assert_allclose(np.asarray(first.collections[3].get_offsets()), points)
    with pytest.raises(ValueError, match="panels is empty"):
        plotting.reliability_diagrams({})
    with pytest.raises(ValueError, match="columns must"):
        plotting.reliability_diagrams({"a": found}, columns=0)
