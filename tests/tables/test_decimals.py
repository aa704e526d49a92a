"""What is made for a column has the digits that its cells have."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from chainfree.tables import NumberColumn, Schema
from chainfree.tables.series import number_series


def _column(values: object) -> NumberColumn:
    (column,) = Schema.infer(pd.DataFrame({"a": values}), numeric=["a"]).columns
    assert isinstance(column, NumberColumn)
    return column


@pytest.mark.parametrize("digits", [1, 2, 4, 6])
@pytest.mark.parametrize("scale", [1.0, 1e5])
def test_digits_after_the_point_are_found(digits: int, scale: float) -> None:
    values = np.round(scale * np.random.default_rng(0).normal(size=500), digits)
    assert _column(values).decimals == digits
    assert _column(np.append(values, np.pi * scale)).decimals is None


def test_single_precision_is_not_taken_for_digits() -> None:
    values = np.random.default_rng(0).normal(size=500).astype(np.float32)
    assert _column(np.round(values, 2)).decimals == 2
    assert _column(values).decimals is None
    assert _column((1e7 * values).astype(np.float32) + np.float32(0.5)).decimals is None  # of which it keeps no digit


def test_whole_numbers_need_none() -> None:
    assert _column(np.arange(100.0)).decimals is None and _column(np.arange(100.0)).whole


@pytest.mark.parametrize("step", [1, 12, 10_000])
def test_whole_numbers_have_the_step_of_the_column(step: int) -> None:
    values = step * np.random.default_rng(0).integers(-50, 50, 500)
    column = _column(values)
    assert column.step == step and column.whole
    made = number_series(column, values + np.random.default_rng(1).uniform(-0.49, 0.49, 500) * step)
    assert made.tolist() == values.tolist() and made.dtype == np.int64
    holed = number_series(column, np.array([0.4 * step, np.nan, 1.6 * step]))
    assert holed[0] == 0 and pd.isna(holed[1]) and holed[2] == 2 * step
    assert _column(np.append(values, 7 * step + 1)).step == 1
    assert _column(np.append(np.tile(values, 6), 7 * step + 1)).step == step  # one of three thousand


def test_what_has_no_step_has_one() -> None:
    assert _column(np.zeros(30)).step == 1
    assert _column(10.0 * np.arange(30) + 0.5).step == 1
    assert _column(1e17 * np.arange(30)).step == 1  # beyond what floats hold one by one
    assert _column(pd.date_range("2024-01-01", periods=60, freq="7D")).step == 1


@pytest.mark.parametrize(("unit", "digits"), [("h", 0), ("s", 0), ("100ms", 1), ("ms", 3), ("us", 6)])
def test_dates_have_the_digits_of_their_seconds(unit: str, digits: int) -> None:
    found = _column(pd.date_range("2024-01-01 10:00", periods=500, freq=unit))
    assert found.dates and found.decimals in (digits, None if digits == 6 else digits)
    made = number_series(found, np.array([found.low + 1e-3, np.nan]))
    seconds = (made[0] - pd.Timestamp("1970-01-01")).total_seconds()
    assert digits == 6 or round(seconds, digits) == pytest.approx(seconds, abs=1e-6)
    assert pd.isna(made[1])


def test_what_is_made_is_rounded_and_saved() -> None:
    column = _column([0.25, 1.5, 2.75])
    assert number_series(column, np.array([1.23456, np.nan])).tolist()[0] == 1.23
    assert Schema.from_dict(Schema((column,)).to_dict()).columns == (column,)
    old = Schema((column,)).to_dict()
    del old["columns"][0]["decimals"]  # as saved before there was such a thing
    assert Schema.from_dict(old).columns[0].decimals is None  # type: ignore[union-attr]
