"""Slants by moments: against scipy's affine map, and what a shear must leave as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from chainfree.datasets import deskewed


def _strokes(slants: list[float], size: int = 28) -> Tensor:
    """Smooth strokes that move by so many columns per row."""
    rows, columns = torch.meshgrid(*(torch.arange(size, dtype=torch.float64),) * 2, indexing="ij")
    middle = (size - 1) / 2
    pictures = []
    for slant in slants:
        across = columns - middle - slant * (rows - middle)
        pictures.append(torch.exp(-across.square() / 4) * ((rows - middle).abs() < 8))
    return torch.where(torch.stack(pictures) > 1e-3, torch.stack(pictures), 0).unsqueeze(1)


def _moments(ink: Tensor) -> dict[str, float]:
    p = (ink / ink.sum()).numpy()
    rows, columns = np.indices(p.shape)
    row, column = (p * rows).sum(), (p * columns).sum()
    return {
        "mass": float(ink.sum()),
        "row": row,
        "column": column,
        "together": float((p * (rows - row) * (columns - column)).sum()),
    }


@pytest.mark.parametrize("slant", [-0.6, -0.25, 0.0, 0.4, 0.55])
def test_row_and_column_are_uncorrelated_afterwards_and_the_centre_stays(slant: float) -> None:
    before = _strokes([slant])[0, 0]
    after = deskewed(before[None, None])[0, 0]

    was, now = _moments(before), _moments(after)
    assert now["together"] == pytest.approx(0, abs=1e-10)
    for what in ("mass", "row", "column"):
        assert now[what] == pytest.approx(was[what], rel=1e-10)


def test_it_is_scipys_affine_map_with_linear_interpolation() -> None:
    generator = torch.Generator().manual_seed(0)
    ink = torch.rand(3, 1, 12, 15, generator=generator, dtype=torch.float64)
    for picture, moved in zip(ink[:, 0], deskewed(ink)[:, 0], strict=True):
        p = (picture / picture.sum()).numpy()
        rows, columns = np.indices(p.shape)
        row, column = (p * rows).sum(), (p * columns).sum()
        slant = (p * (rows - row) * (columns - column)).sum() / (p * (rows - row) ** 2).sum()
        # a frame of zeros: scipy's "constant" mode cuts a pixel that lies half outside
        expected = ndimage.affine_transform(
            np.pad(picture.numpy(), 2), [[1, 0], [slant, 1]], offset=[0, -slant * (row + 2)], order=1
        )
        np.testing.assert_allclose(moved.numpy(), expected[2:-2, 2:-2], atol=1e-10)


def test_an_upright_picture_stays_and_slants_become_alike() -> None:
    upright, left, right = deskewed(_strokes([0.0, -0.5, 0.5]))
    torch.testing.assert_close(upright, _strokes([0.0])[0])
    assert (left - right).abs().max() < 0.02
    assert (_strokes([-0.5]) - _strokes([0.5])).abs().max() > 0.9


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pictures_without_a_slant_of_their_own_stay(dtype: torch.dtype) -> None:
    blank, line, dot = torch.zeros(3, 1, 28, 28, dtype=dtype)
    line[0, 13, 3:20] = 0.3
    dot[0, 7, 7] = 1.0
    pictures = torch.stack([blank, line, dot])
    torch.testing.assert_close(deskewed(pictures), pictures)


def test_a_picture_does_not_depend_on_its_neighbours() -> None:
    pictures = _strokes([0.3, -0.4])
    torch.testing.assert_close(deskewed(pictures)[1:], deskewed(pictures[1:]))


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (torch.zeros(2, 28, 28), "must be"),
        (torch.zeros(2, 3, 8, 8), "must be"),
        (-torch.ones(1, 1, 4, 4), "values below 0"),
        (torch.ones(1, 1, 4, 4, dtype=torch.uint8), "divide bytes by 255"),
        (torch.full((1, 1, 4, 4), torch.nan), "finite"),
    ],
)
def test_what_is_not_ink_on_a_ground_is_refused(x: Tensor, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        deskewed(x)
