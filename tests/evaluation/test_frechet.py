"""The Fréchet distance against closed forms and scipy's matrix root."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from chainfree.evaluation import frechet_distance


def _rows(n: int, dim: int, seed: int, *, scale: float = 1.0, shift: float = 0.0) -> torch.Tensor:
    source = torch.Generator().manual_seed(seed)
    mix = torch.randn(dim, dim, generator=source, dtype=torch.float64)
    return scale * torch.randn(n, dim, generator=source, dtype=torch.float64) @ mix + shift


@settings(max_examples=20, deadline=None)
@given(dim=st.integers(1, 8), seed=st.integers(0, 1000), shift=st.floats(-1e3, 1e3))
def test_it_is_the_distance_of_normals_by_scipys_root(dim: int, seed: int, shift: float) -> None:
    a, b = _rows(40, dim, seed, shift=shift), _rows(30, dim, seed + 1, scale=1.7, shift=shift + 0.5)
    first, second = np.cov(a.T).reshape(dim, dim), np.cov(b.T).reshape(dim, dim)
    root = np.real(sqrtm(first @ second))
    expected = float((a.mean(0) - b.mean(0)).square().sum()) + np.trace(first + second - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_shifted_and_stretched_rows() -> None:
    a = _rows(500, 3, 0)
    variance = float(a.var(0).sum())
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6 * variance)
    assert frechet_distance(a, a + 2) == pytest.approx(12)
    assert frechet_distance(a - a.mean(0), 3 * (a - a.mean(0))) == pytest.approx(4 * variance)
    assert frechet_distance(a.view(500, 3, 1, 1).float(), a.view(500, 3, 1, 1).float() + 2) == pytest.approx(
        12, rel=1e-5
    )


def test_more_features_than_rows_have_a_distance() -> None:
    a, b = torch.randn(10, 40), torch.randn(12, 40) + 1
    assert np.isfinite(frechet_distance(a, b)) and frechet_distance(a, b) > 20


def test_rows_that_have_none_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="at least 2 rows"):
        frechet_distance(torch.zeros(1, 3), torch.zeros(4, 3))
    with pytest.raises(ValueError, match="one shape"):
        frechet_distance(torch.zeros(4, 3), torch.zeros(4, 2))
    with pytest.raises(ValueError, match="first in row 0"):
        frechet_distance(torch.zeros(4, 3), torch.full((4, 3), torch.nan))
    original = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("torchmetrics"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"chainfree\[images\]"):
        frechet_distance(torch.zeros(4, 3), torch.zeros(4, 3))
