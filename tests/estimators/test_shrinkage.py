"""Means of draws taken back to a column's own, against what regression on whole rows says."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from chainfree.estimators import EnergyImputer
from chainfree.estimators.shrinkage import Shrinkage, _slope


def _table(n: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    return pd.DataFrame({"x": x, "double": 2 * x + 0.1 * rng.normal(size=n), "alone": 5 + rng.normal(size=n)})


def _holed(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    return frame.mask(np.random.default_rng(seed).random(frame.shape) < 0.2)


def test_what_is_not_known_from_other_columns_goes_back_to_its_mean() -> None:
    frame = _table(600, 0)
    # as many components as fit noise
    imputer = EnergyImputer(n_components=60, max_iter=300, hidden_layer_sizes=(128,), random_state=0)
    imputer.fit(_holed(frame, 1))
    found = imputer.shrinkage_
    assert list(found) == ["x", "double", "alone"]
    assert found["double"].slope > 0.9 and found["alone"].slope < 0.6
    assert found["alone"].centre == pytest.approx(5, abs=0.5)
    new = _table(2000, 2)
    holed = _holed(new, 3)
    gone = holed["alone"].isna()

    def error() -> float:
        return float(((imputer.transform(holed)["alone"] - new["alone"])[gone] ** 2).mean())

    shrunk = error()
    imputer.shrinkage_ = {}
    assert shrunk < 0.97 * error()


def test_the_slope_is_that_of_regression_with_a_prior() -> None:
    rng = np.random.default_rng(0)
    means = rng.normal(size=5000)
    values = 0.4 * means + rng.normal(size=5000)
    assert _slope(means, values) == pytest.approx(float(means @ values / (means @ means)), abs=0.01)
    few = _slope(means[:4], values[:4])
    # a prior is a row: slope 1 is seen once more, with the noise of the cells over the prior's deviation of a half
    noise = float(np.sqrt((values[:4] ** 2).mean()))
    rows, seen = np.append(means[:4], 2 * noise)[:, None], np.append(values[:4], 2 * noise)
    assert few == pytest.approx(np.clip(np.linalg.lstsq(rows, seen, rcond=None)[0][0], 0, 1))
    assert _slope(means, 3 * means) == 1.0  # no further away than the draws are
    assert _slope(means, -means) == 0.0
    assert _slope(np.zeros(5), np.ones(5)) == 1.0 and _slope(np.zeros(0), np.zeros(0)) == 1.0
    assert _slope(np.ones(5), np.zeros(5)) == 1.0  # a constant


def test_it_is_affine_and_saved(tmp_path: object) -> None:
    np.testing.assert_allclose(Shrinkage(2.0, 0.5)(np.array([2.0, 4.0])), [2.0, 3.0])
    holed = _holed(_table(200, 0), 1)
    imputer = EnergyImputer(n_components=4, n_rounds=0, n_mixtures=1, max_iter=20, random_state=0).fit(holed)
    imputer.save(f"{tmp_path}/imputer")
    again = EnergyImputer.load(f"{tmp_path}/imputer")
    assert again.shrinkage_ == imputer.shrinkage_ and len(again.shrinkage_) == 3
    pd.testing.assert_frame_equal(again.transform(holed), imputer.transform(holed))


def test_without_held_out_rows_there_is_none_and_the_strategy_may_change() -> None:
    holed = _holed(_table(100, 0), 1)
    settings = {"n_components": 2, "n_rounds": 0, "n_mixtures": 1, "max_iter": 5, "random_state": 0}
    assert EnergyImputer(**settings, validation_fraction=0.0).fit(holed).shrinkage_ == {}
    likely = EnergyImputer(**settings).fit(holed)
    changed = EnergyImputer(**settings, strategy="draw").fit(holed).set_params(strategy="likely")
    pd.testing.assert_frame_equal(changed.transform(holed), likely.transform(holed))
    with pytest.raises(ValueError, match="strategy must be 'likely' or 'draw', got 'best'"):
        likely.set_params(strategy="best").transform(holed)


def test_the_centre_is_the_mean_of_all_known_cells() -> None:
    frame = pd.DataFrame({"heavy": np.exp(3 * np.random.default_rng(0).normal(size=300)), "one": np.ones(300)})
    frame["whole"] = np.random.default_rng(1).integers(0, 1000, 300)
    holed = _holed(frame, 1)
    imputer = EnergyImputer(n_components=2, n_rounds=0, n_mixtures=1, max_iter=5, random_state=0).fit(holed)
    for name, found in imputer.shrinkage_.items():
        assert found.centre == pytest.approx(holed[name].mean(), rel=1e-4), name
    filled = imputer.transform(holed)
    again = imputer.set_params(strategy="draw").transform(holed)
    for name in imputer.shrinkage_:
        for made in (filled, again):
            assert holed[name].min() <= made[name].min() and made[name].max() <= holed[name].max()
