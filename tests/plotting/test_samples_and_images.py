"""Pictures of samples: what they hold, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from chainfree import plotting

pytest.importorskip("matplotlib")


def test_panels_of_samples_have_the_same_axes_and_as_many_points() -> None:
    rng = np.random.default_rng(0)
    figure = plotting.sample_panels(
        {"data": rng.normal(size=(50, 2)), "model": rng.normal(size=(30, 2))}, bounds=((-3, 3), (-2, 2)), title="both"
    )
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["data", "model"]
    for axes in figure.axes:
        assert axes.get_xlim() == (-3, 3) and axes.get_ylim() == (-2, 2)
        assert len(axes.lines[0].get_xdata()) == 30


def test_images_stand_in_reading_order() -> None:
    images = np.zeros((5, 1, 4, 4))
    images[3] = 2.0
    figure = plotting.image_grid(images, columns=3, low=0.0, high=2.0)
    shown = np.asarray(figure.axes[0].images[0].get_array())
    assert shown.shape == (2 * 6 + 2, 3 * 6 + 2)
    assert shown[8:12, 2:6].min() == 1.0 and shown[2:6, 2:6].max() == 0.0
    named = plotting.image_grid(images, columns=3, row_names=["first", "second"])
    assert [text.get_text() for text in named.axes[0].texts] == ["first", "second"]
    with pytest.raises(ValueError, match="row_names must be 2, one for each row, got 1"):
        plotting.image_grid(images, columns=3, row_names=["first"])
    colour = plotting.image_grid(np.zeros((2, 3, 4, 4)), columns=2)
    assert np.asarray(colour.axes[0].images[0].get_array()).shape[-1] == 3


def test_refusals() -> None:
    with pytest.raises(ValueError, match="samples is empty"):
        plotting.sample_panels({}, bounds=((0, 1), (0, 1)))
    with pytest.raises(ValueError, match=r"\(N, 1 or 3, H, W\)"):
        plotting.image_grid(np.zeros((2, 2, 4, 4)))
    with pytest.raises(ValueError, match="low must be below high"):
        plotting.image_grid(np.zeros((2, 1, 4, 4)), low=1.0, high=0.0)
    with pytest.raises(ValueError, match="NaN"):
        plotting.image_grid(np.full((1, 1, 2, 2), np.nan))
