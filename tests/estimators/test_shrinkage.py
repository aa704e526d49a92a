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
    precision = float(means[:4] @ means[:4] / (values[:4] ** 2).mean())
    of_cells = float(means[:4] @ values[:4] / (means[:4] @ means[:4]))
    assert few == pytest.approx(np.clip((precision * of_cells + 4) / (precision + 4), 0, 1))
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


def test_without_held_out_rows_and_for_draws_there_is_none() -> None:
    holed = _holed(_table(100, 0), 1)
    settings = {"n_components": 2, "n_rounds": 0, "n_mixtures": 1, "max_iter": 5, "random_state": 0}
    assert EnergyImputer(**settings, validation_fraction=0.0).fit(holed).shrinkage_ == {}
    assert EnergyImputer(**settings, strategy="draw").fit(holed).shrinkage_ == {}
