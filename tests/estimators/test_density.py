"""Densities of tables against grids, and their draws against the truth."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from chainfree.datasets import DataError
from chainfree.estimators import EnergyDensity


def _towns(n: int, seed: int) -> pd.DataFrame:
    """A bent curve of two numbers in one town, a ring in the other: no mixture of two components."""
    rng = np.random.default_rng(seed)
    ulm = rng.random(n) < 0.7
    angle = rng.uniform(0, 2 * np.pi, n)
    along = rng.normal(0, 1, n)
    x = np.where(ulm, along, 2 * np.cos(angle)) + 0.2 * rng.normal(size=n)
    y = np.where(ulm, along**2 - 1, 2 * np.sin(angle)) + 0.2 * rng.normal(size=n)
    return pd.DataFrame({"town": np.where(ulm, "Ulm", "Bonn"), "x": 100 + 50 * x, "y": y})


@cache
def _fitted() -> EnergyDensity:
    return EnergyDensity(n_components=6, hidden_layer_sizes=(128, 128), max_iter=1200, random_state=0).fit(
        _towns(4000, 0)
    )


def test_it_sums_to_one_in_the_tables_units() -> None:
    density = _fitted()
    x, y = np.meshgrid(np.linspace(-250, 450, 141), np.linspace(-5, 12, 171))
    mass = {}
    for town in ("Ulm", "Bonn"):
        grid = pd.DataFrame({"town": town, "x": x.ravel(), "y": y.ravel()})
        mass[town] = float(np.exp(density.score_samples(grid)).sum() * 5 * 0.1)
    low, high = density.log_partition_.low, density.log_partition_.high
    assert high - low < 0.1
    # of the sum, that the bracket's middle is taken for log Z says how far it may be from 1
    assert low <= density.log_partition_.value + np.log(sum(mass.values())) <= high
    assert mass["Ulm"] == pytest.approx(0.7, abs=0.03)


def test_the_tilt_is_better_than_the_mixture_and_stops_in_time() -> None:
    density = _fitted()
    model = density.model_
    assert model.held_out is not None and model.held_out_base is not None
    assert model.held_out > model.held_out_base + 0.1
    new = _towns(4000, 1)
    # in the encoded units, as the held-out rows are
    rows = model.encoder.encode(new)
    found = float(-(model.energies(rows) + model.log_z.value).mean())
    assert found == pytest.approx(model.held_out, abs=0.1)
    assert density.score(new) == pytest.approx(float(density.score_samples(new).mean()))


def test_draws_look_like_the_rows() -> None:
    density = _fitted()
    drawn = density.sample(3000, random_state=0)
    assert list(drawn.columns) == ["town", "x", "y"] and set(drawn["town"]) == {"Ulm", "Bonn"}
    truth = _towns(3000, 2)
    assert (drawn["town"] == "Ulm").mean() == pytest.approx(0.7, abs=0.04)
    for town, rows in truth.groupby("town"):
        own = drawn[drawn["town"] == town]
        for name in ("x", "y"):
            assert stats.ks_2samp(own[name], rows[name]).statistic < 0.08, (town, name)
    pd.testing.assert_frame_equal(drawn, density.sample(3000, random_state=0))


def test_draws_given_some_columns_have_their_conditional() -> None:
    density = _fitted()
    rows = density.sample(2000, given={"town": "Ulm", "x": 150.0}, random_state=0)
    assert (rows["town"] == "Ulm").all() and np.allclose(rows["x"], 150.0)
    # by the density itself on a line
    line = pd.DataFrame({"town": "Ulm", "x": 150.0, "y": np.linspace(-4, 8, 1201)})
    weights = np.exp(density.score_samples(line))
    steps = np.cumsum(weights) / weights.sum()

    def cdf(y: np.ndarray) -> np.ndarray:
        return np.interp(y, line["y"], steps)

    assert stats.kstest(rows["y"], cdf).statistic < 0.06
    # y = x^2 - 1 + noise at x = 1, up to what noise in x does
    assert rows["y"].mean() == pytest.approx(0.0, abs=0.25)
    with pytest.raises(DataError, match="there is no column 'z'; the table has town, x, y"):
        density.sample(1, given={"z": 1})
    with pytest.raises(DataError, match="'town' has no 'Wien'; it has 'Bonn', 'Ulm'"):
        density.sample(1, given={"town": "Wien"})
    with pytest.raises(DataError, match="'x' takes a number, got 'far'"):
        density.sample(1, given={"x": "far"})
    with pytest.raises(DataError, match="'town' had no missing cells; give it a value"):
        density.sample(1, given={"town": None})


def test_missing_cells_and_shared_values_have_probabilities() -> None:
    rng = np.random.default_rng(0)
    n = 3000
    gain = np.where(rng.random(n) < 0.6, 0.0, rng.normal(5, 1, n))
    frame = pd.DataFrame({"gain": np.where(rng.random(n) < 0.25, np.nan, gain)})
    density = EnergyDensity(n_components=2, hidden_layer_sizes=(32,), max_iter=300, random_state=0).fit(frame)
    zero, gone, five = np.exp(density.score_samples(pd.DataFrame({"gain": [0.0, np.nan, 5.0]})))
    assert zero == pytest.approx(0.45, abs=0.03) and gone == pytest.approx(0.25, abs=0.03)
    assert five == pytest.approx(0.3 * stats.norm.pdf(0), rel=0.15)
    drawn = density.sample(2000, random_state=0)["gain"]
    assert drawn.isna().mean() == pytest.approx(0.25, abs=0.04) and (drawn == 0).mean() == pytest.approx(0.45, abs=0.04)
    assert (density.sample(5, given={"gain": 0})["gain"] == 0).all()
    assert density.sample(5, given={"gain": None})["gain"].isna().all()


def test_an_array_comes_back_as_an_array() -> None:
    rows = np.random.default_rng(0).normal(size=(200, 3))
    density = EnergyDensity(n_components=1, hidden_layer_sizes=(8,), max_iter=20, random_state=0).fit(rows)
    drawn = density.sample(4, given={"x1": 0.5})
    assert isinstance(drawn, np.ndarray) and drawn.shape == (4, 3)
    np.testing.assert_allclose(drawn[:, 1], 0.5, rtol=1e-6)
    truth = stats.multivariate_normal(rows.mean(0), np.cov(rows.T)).logpdf(rows)
    np.testing.assert_allclose(density.score_samples(rows), truth, atol=0.5)


def test_short_trainings_count() -> None:
    """The last step is looked at, whatever their number."""
    density = EnergyDensity(n_components=1, hidden_layer_sizes=(32,), max_iter=70, learning_rate=3e-3, random_state=0)
    model = density.fit(_towns(1500, 0)).model_
    assert model.held_out is not None and model.held_out_base is not None and model.held_out > model.held_out_base
    held = model.held_out  # with the log Z that scores have
    assert np.isfinite(held) and model.log_z.value != 0.0


def test_what_is_given_comes_back_to_the_last_digit() -> None:
    density = _fitted()
    assert (density.sample(3, given={"x": 0.1234567890123})["x"] == 0.1234567890123).all()


def test_what_is_no_answer_to_a_condition_is_refused() -> None:
    density = _fitted()
    for wrong in (0, -1, 2.5, True, "3"):
        with pytest.raises(ValueError, match="n_samples must be"):
            density.sample(wrong)  # type: ignore[arg-type]
    for given in ("x=1", pd.DataFrame({"x": [1.0]})):
        with pytest.raises(TypeError, match=r"given must be values by column, such as .*got (str|DataFrame)"):
            density.sample(2, given=given)  # type: ignore[arg-type]


def test_dates_are_given_in_one_way_and_holes_in_any() -> None:
    rng = np.random.default_rng(0)
    days = pd.Series(pd.Timestamp("2021-01-01") + pd.to_timedelta(rng.integers(0, 365, 60), unit="D")).mask(
        rng.random(60) < 0.2
    )
    frame = pd.DataFrame({"hired": days, "pay": pd.Series(rng.normal(size=60)).mask(rng.random(60) < 0.2)})
    density = EnergyDensity(n_components=1, max_iter=0, random_state=0).fit(frame)
    for when in ("2021-12-07", pd.Timestamp("2021-12-07"), np.datetime64("2021-12-07")):
        assert density.sample(2, given={"hired": when})["hired"].tolist() == [pd.Timestamp("2021-12-07")] * 2
    for when in ("07.12.2021", "12/07/2021", "2021", "tomorrow"):
        with pytest.raises(DataError, match="'hired' takes a date, as 2024-12-31, got"):
            density.sample(2, given={"hired": when})
    for hole in (None, np.nan, pd.NA, pd.NaT):
        drawn = density.sample(2, given={"hired": hole, "pay": hole})
        assert drawn["hired"].isna().all() and drawn["pay"].isna().all()


@pytest.mark.parametrize("fraction", [-0.1, 1.0])
def test_a_fraction_is_one(fraction: float) -> None:
    with pytest.raises(ValueError, match=r"validation_fraction must be a number in \[0, 1\)"):
        EnergyDensity(validation_fraction=fraction).fit(_towns(50, 0))
