"""p-values by counting."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from chainfree.evaluation import conformal_p_values, conformal_threshold
from chainfree.evaluation.conformal import fewest_kept_out

numbers = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=40)


@settings(max_examples=100, deadline=None)
@given(numbers, numbers, st.floats(0.01, 0.99))
def test_they_count_and_the_threshold_agrees(calibration: list[float], scores: list[float], level: float) -> None:
    c, s = np.array(calibration), np.array(scores)
    p = conformal_p_values(c, s)
    assert p.tolist() == [(1 + sum(a >= b for a in calibration)) / (len(c) + 1) for b in scores]
    threshold = conformal_threshold(c, level)
    assert ((s > threshold) == (p <= level + 1e-9)).all()


def test_false_alarms_are_at_the_level_whatever_the_scores() -> None:
    rng = np.random.default_rng(0)
    alarms = [
        float((rng.standard_cauchy(200) > conformal_threshold(rng.standard_cauchy(59), 0.05)).mean())
        for _ in range(400)
    ]
    # 3 of 60 ranks are alarms: exactly the level
    assert stats.ttest_1samp(alarms, 0.05).pvalue > 1e-3


def test_with_too_few_rows_nothing_is_called() -> None:
    assert conformal_threshold(np.arange(18.0), 0.05) == math.inf
    assert conformal_threshold(np.arange(19.0), 0.05) == 18.0


@pytest.mark.parametrize("level", [0.5, 0.3, 0.1, 0.05, 0.01, 0.007])
def test_the_fewest_rows_are_those_of_the_first_threshold(level: float) -> None:
    fewest = fewest_kept_out(level)
    assert math.isfinite(conformal_threshold(np.arange(float(fewest)), level))
    assert fewest == 1 or conformal_threshold(np.arange(fewest - 1.0), level) == math.inf


def test_refusals() -> None:
    with pytest.raises(ValueError, match="level must be above 0 and below 1, got 1"):
        conformal_threshold(np.ones(3), 1)
    with pytest.raises(ValueError, match="calibration needs scores"):
        conformal_p_values(np.array([]), np.ones(2))
    with pytest.raises(ValueError, match="calibration needs scores"):
        conformal_threshold(np.array([np.nan]), 0.1)
    with pytest.raises(ValueError, match="scores hold NaN"):
        conformal_p_values(np.ones(2), np.array([np.nan]))
