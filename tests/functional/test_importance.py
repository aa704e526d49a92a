"""Self-normalised weights against numpy, and their bounds."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chainfree.functional import self_normalised

logs = st.lists(st.floats(-60, 60), min_size=1, max_size=40)


@given(logs, st.floats(-300, 300))
def test_weights_are_numpy_s_whatever_the_constant(values: list[float], constant: float) -> None:
    found = self_normalised(torch.tensor(values, dtype=torch.float64) + constant)
    plain = np.exp(np.array(values) - max(values))
    plain = plain / plain.sum()
    np.testing.assert_allclose(found.values, plain, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(float(found.effective_sample_size), 1 / (plain**2).sum(), rtol=1e-9)


@given(logs)
def test_the_effective_sample_size_is_from_one_to_all(values: list[float]) -> None:
    size = float(self_normalised(torch.tensor(values, dtype=torch.float64)).effective_sample_size)
    assert 1 - 1e-9 <= size <= len(values) * (1 + 1e-9)


def test_the_bounds_are_reached() -> None:
    assert float(self_normalised(torch.full((7,), 3.0)).effective_sample_size) == pytest.approx(7)
    assert float(self_normalised(torch.tensor([0.0, 900.0, 0.0])).effective_sample_size) == 1.0
    # a mass on k of n rows
    size = self_normalised(torch.tensor([0.0, 0.0, -math.inf, 0.0, -math.inf])).effective_sample_size
    assert float(size) == pytest.approx(3)


@given(logs, st.floats(1.001, 30))
def test_no_weight_is_above_the_clip(values: list[float], clip: float) -> None:
    found = self_normalised(torch.tensor(values, dtype=torch.float64), clip=clip)
    n = len(values)
    weights = found.values.numpy()
    assert weights.sum() == pytest.approx(1, rel=1e-12)
    assert weights.min() >= 0
    assert weights.max() <= clip / n * (1 + 1e-9)
    assert float(found.effective_sample_size) >= n / clip * (1 - 1e-9)


@given(st.lists(st.floats(-60, 60), min_size=2, max_size=40), st.floats(0.001, 0.999))
def test_what_the_clip_does_not_bind_keeps_its_proportions(values: list[float], share: float) -> None:
    """The weights are min(s w, clip / N) for one s: found here by bisection."""
    plain = np.exp(np.array(values) - max(values))
    clip = 1 + share * (len(values) - 1)  # between the mean weight and all of it
    cap = clip / len(values)
    low, high = -5.0, 140.0  # the logarithm of s
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if np.minimum(np.exp(middle) * plain, cap).sum() < 1 else (low, middle)
    found = self_normalised(torch.tensor(values, dtype=torch.float64), clip=clip).values
    np.testing.assert_allclose(found, np.minimum(np.exp(high) * plain, cap), rtol=1e-6, atol=1e-12)


@given(logs)
def test_a_clip_that_binds_nothing_changes_nothing(values: list[float]) -> None:
    rows = torch.tensor(values, dtype=torch.float64)
    plain = self_normalised(rows).values
    clip = 1.01 * max(1.0, float(plain.max()) * len(values))
    np.testing.assert_allclose(self_normalised(rows, clip=clip).values, plain, rtol=1e-9, atol=1e-15)


def test_one_row_that_outweighs_all_is_cut() -> None:
    """Cut and divided by the sum, it would be one again."""
    rows = torch.zeros(100)
    rows[3] = 80.0
    weights = self_normalised(rows, clip=10.0).values
    assert float(weights[3]) == pytest.approx(0.1, rel=1e-5)
    assert float(weights[0]) == pytest.approx(0.9 / 99, rel=1e-5)


def test_rows_without_mass_get_none() -> None:
    weights = self_normalised(torch.tensor([0.0, -math.inf, 0.0, -math.inf]), clip=1.5).values
    assert weights.tolist() == [0.5, 0.0, 0.5, 0.0]  # the clip cannot hold here, the sum can


@pytest.mark.parametrize("clip", [1.0, 0.5, 0.0, -2.0, math.inf, math.nan])
def test_a_clip_of_one_or_less_is_refused(clip: float) -> None:
    with pytest.raises(ValueError, match=rf"clip .* above \d, got {clip!r}"):
        self_normalised(torch.zeros(3), clip=clip)
