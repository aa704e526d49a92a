"""The sliced Wasserstein distance against its closed form for a translation and for scaled normals."""

from __future__ import annotations

import math

import pytest
import torch

from chainfree.evaluation import sliced_wasserstein

pytest.importorskip("ot")


def test_a_translation_moves_every_projection_by_its_component() -> None:
    x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    moved = x + torch.tensor([3.0, 0.0, 0.0])
    # the mean square of one component of a random direction in three dimensions is a third
    assert sliced_wasserstein(x, moved, seed=0, projections=4000) == pytest.approx(math.sqrt(3.0), rel=0.03)


def test_equal_samples_are_at_no_distance_and_the_seed_decides() -> None:
    x, y = torch.randn(2, 200, 2, generator=torch.Generator().manual_seed(1))
    assert sliced_wasserstein(x, x, seed=0) == pytest.approx(0.0, abs=1e-9)
    assert sliced_wasserstein(x, y, seed=1) == sliced_wasserstein(x, y, seed=1)


def test_bad_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="x has NaN"):
        sliced_wasserstein(torch.full((2, 2), torch.nan), torch.zeros(2, 2), seed=0)
