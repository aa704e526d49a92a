"""Missing cells: what they are filled with, and what is left alone."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, SimpleImputer

from chainfree.estimators import EnergyImputer, EnergySynthesizer

SETTINGS = {"n_components": 8, "hidden_layer_sizes": (64, 64), "max_iter": 400, "random_state": 0}


def _people(n: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    height = rng.normal(172, 9, n)
    town = rng.choice(["port", "mine", "farm"], n)
    trade = np.where(rng.random(n) < 0.9, town, rng.choice(["port", "mine", "farm"], n))
    return pd.DataFrame(
        {
            "height": height,
            "weight": 70 + 0.9 * (height - 172) + rng.normal(0, 3, n),
            "town": town,
            "trade": pd.Series(trade).map({"port": "sailor", "mine": "miner", "farm": "farmer"}),
            "children": rng.poisson(np.where(town == "farm", 4, 1)),
        }
    )


def _with_holes(frame: pd.DataFrame, share: float, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return frame.mask(pd.DataFrame(rng.random(frame.shape) < share, columns=frame.columns))


@cache
def _fitted() -> EnergyImputer:
    return EnergyImputer(**SETTINGS).fit(_with_holes(_people(2500, 0), 0.15, 0))


def test_cells_are_filled_by_what_goes_with_the_others() -> None:
    truth = _people(600, 1)
    holed = _with_holes(truth, 0.15, 1)
    filled = _fitted().transform(holed)
    assert list(filled.columns) == list(truth.columns) and not filled.isna().any().any()
    there = holed.notna()
    for name in truth:
        assert filled[name][there[name]].tolist() == truth[name][there[name]].tolist(), name
    gone = holed["weight"].isna() & holed["height"].notna()
    error = (filled["weight"] - truth["weight"])[gone]
    assert float(error.pow(2).mean() ** 0.5) < 3.6  # 3 is the noise, 8.6 the spread
    gone = holed["trade"].isna() & holed["town"].notna()
    assert (filled["trade"] == truth["trade"])[gone].mean() > 0.85  # of 0.93 that can be known
    gone = holed["children"].isna() & (holed["town"] == "farm")
    assert filled["children"][gone].mean() == pytest.approx(4, abs=0.6)
    gone = holed["children"].isna() & (holed["town"] == "port")
    assert filled["children"][gone].mean() == pytest.approx(1, abs=0.4)


def test_it_is_no_worse_than_linear_imputation_where_that_is_right() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1500, 4)) @ rng.normal(size=(4, 4))
    holed = np.where(rng.random(x.shape) < 0.2, np.nan, x)
    gone = np.isnan(holed)

    def error(filled: np.ndarray) -> float:
        return float(np.sqrt(((filled - x)[gone] ** 2).mean()))

    ours = error(EnergyImputer(**SETTINGS, n_imputations=50).fit_transform(holed))
    linear = error(IterativeImputer(random_state=0).fit_transform(holed))
    mean = error(SimpleImputer().fit_transform(holed))
    assert ours < 1.1 * linear and ours < 0.8 * mean


def test_completions_differ_where_cells_were_missing_and_are_spread_as_they_should() -> None:
    truth = _people(400, 2)
    holed = truth.assign(weight=np.nan)
    tables = _fitted().completions(holed, n_completions=8, random_state=0)
    assert len(tables) == 8
    weights = np.stack([table["weight"] for table in tables])
    assert weights.std(0).mean() == pytest.approx(3 * (7 / 8) ** 0.5, abs=0.6)
    for table in tables:
        pd.testing.assert_series_equal(table["town"], truth["town"])
    again = _fitted().completions(holed, n_completions=8, random_state=0)
    pd.testing.assert_frame_equal(tables[3], again[3])


def test_types_and_index_are_kept() -> None:
    frame = _people(300, 3).assign(member=True, born=pd.date_range("1990-01-01", periods=300, freq="D"))
    frame["member"] = np.random.default_rng(0).random(300) > 0.5
    holed = frame.copy()
    holed.index = pd.Index(range(1000, 1300))
    holed["member"] = holed["member"].astype(object).where(np.arange(300) % 7 > 0)
    holed["born"] = holed["born"].where(np.arange(300) % 5 > 0)
    filled = EnergyImputer(**{**SETTINGS, "max_iter": 20, "n_rounds": 1}).fit_transform(holed)
    assert filled.index.equals(holed.index)
    assert filled["member"].isin([True, False]).all() and filled["born"].dtype.kind == "M"
    assert not filled.isna().any().any()


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "Float32", "float[pyarrow]", "Int8", "int32[pyarrow]"]
)
def test_columns_keep_their_type(dtype: str) -> None:
    x = np.random.default_rng(0).normal(size=200)
    values = pd.Series(np.round(8 * x) if "nt" in dtype else x).mask(np.arange(200) < 20).astype(dtype).rename("y")
    filled = EnergyImputer(max_iter=0, n_rounds=1, random_state=0).fit_transform(pd.DataFrame({"x": x, "y": values}))
    assert filled["y"].dtype == dtype and not filled["y"].isna().any()
    pd.testing.assert_series_equal(filled["y"][20:], values[20:])


def test_draws_are_the_same_every_time() -> None:
    imputer = _fitted()
    holed = _with_holes(_people(100, 4), 0.3, 4)
    drawn = EnergyImputer(**SETTINGS, strategy="draw")
    drawn.__dict__.update({k: v for k, v in vars(imputer).items() if k.endswith("_") or k.startswith("_")})
    pd.testing.assert_frame_equal(drawn.transform(holed), drawn.transform(holed))
    assert not drawn.transform(holed).equals(imputer.transform(holed))


def test_a_table_without_holes_comes_back() -> None:
    frame = _people(50, 5)
    pd.testing.assert_frame_equal(_fitted().transform(frame), frame)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="strategy must be 'likely' or 'draw', got 'mean'"):
        EnergyImputer(strategy="mean").fit(_people(20, 0))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="n_imputations must be a whole number above 0, got 0"):
        EnergyImputer(n_imputations=0).fit(_people(20, 0))
    with pytest.raises(ValueError, match="'town' has no value in any row; drop it"):
        EnergyImputer().fit(_people(20, 0).assign(town=None))
    with pytest.raises(ValueError, match="n_completions must be a whole number above 0, got 0"):
        _fitted().completions(_people(5, 0), n_completions=0)


def test_no_hole_is_left_and_none_is_made() -> None:
    """Codes that no row has keep a small probability for rows that do, and are never drawn."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({name: rng.choice(list("xyz"), 60) for name in "abc"} | {"d": rng.normal(size=60)})
    imputer = EnergyImputer(n_components=4, n_rounds=1, max_iter=0, random_state=0).fit(_with_holes(frame, 0.2, 0))
    for table in imputer.completions(_with_holes(pd.concat([frame] * 5), 0.5, 1), n_completions=20, random_state=0):
        assert not table.isna().any().any()
    made = EnergySynthesizer(n_components=4, max_iter=0, random_state=0).fit(frame).sample(20_000, random_state=0)
    assert not made.isna().any().any()


def test_days_are_filled_by_days() -> None:
    days = pd.Series(pd.date_range("2020-01-01", periods=200)).where(np.arange(200) % 5 > 0)
    filled = EnergyImputer(n_components=2, max_iter=0, random_state=0).fit_transform(pd.DataFrame({"day": days}))
    assert (filled["day"].dt.normalize() == filled["day"]).all()
