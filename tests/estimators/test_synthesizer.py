"""Synthetic rows: their types, their shares, what goes with what, and that they are no copies."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from chainfree.estimators import EnergySynthesizer


def _people(n: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    town = rng.choice(["port", "mine", "farm"], n, p=[0.5, 0.3, 0.2])
    gain = np.where(rng.random(n) < 0.8, 0.0, rng.lognormal(8, 1, n))
    return pd.DataFrame(
        {
            "age": rng.integers(18, 90, n),
            "gain": gain,
            "town": town,
            "grade": pd.Categorical(rng.choice(["low", "high"], n), categories=["low", "high"], ordered=True),
            "pay": np.where(town == "mine", 3000, 2000) + rng.normal(0, 100, n),
            "note": np.where(rng.random(n) < 0.3, None, "seen"),
        }
    )


@cache
def _fitted() -> EnergySynthesizer:
    return EnergySynthesizer(n_components=8, hidden_layer_sizes=(64, 64), max_iter=400, random_state=0).fit(
        _people(3000, 0)
    )


def test_rows_have_the_tables_types_and_shares() -> None:
    truth, made = _people(3000, 1), _fitted().sample(3000, random_state=0)
    assert made.dtypes.astype(str).tolist() == truth.dtypes.astype(str).tolist()
    assert (made["gain"] == 0).mean() == pytest.approx(0.8, abs=0.04)
    assert made["note"].isna().mean() == pytest.approx(0.3, abs=0.04)
    for town, share in {"port": 0.5, "mine": 0.3, "farm": 0.2}.items():
        assert (made["town"] == town).mean() == pytest.approx(share, abs=0.04)
    for name in ("age", "pay"):
        assert stats.ks_2samp(made[name], truth[name]).statistic < 0.06, name
    positive = stats.ks_2samp(made["gain"][made["gain"] > 0], truth["gain"][truth["gain"] > 0])
    assert positive.statistic < 0.17
    assert (made["pay"][made["town"] == "mine"] > 2500).mean() > 0.97


def test_rows_are_made_given_any_columns() -> None:
    made = _fitted().sample(500, given={"town": "mine", "gain": 0, "grade": "high", "note": None}, random_state=0)
    assert (made["town"] == "mine").all() and (made["gain"] == 0).all() and made["note"].isna().all()
    assert (made["grade"] == "high").all()
    assert made["pay"].mean() == pytest.approx(3000, abs=60)


def test_numbers_stay_within_the_tables() -> None:
    table, made = _people(3000, 0), _fitted().sample(3000, random_state=0)
    for name in ("age", "gain", "pay"):
        assert table[name].min() <= made[name].min() and made[name].max() <= table[name].max(), name
    # what is given is given
    assert (_fitted().sample(3, given={"age": 120})["age"] == 120).all()


def test_rows_are_no_copies() -> None:
    table, made = _people(3000, 0), _fitted().sample(3000, random_state=0)
    own = set(table["pay"].round(6)) - {table["pay"].min().round(6), table["pay"].max().round(6)}  # the bounds
    assert not any(pay in own for pay in made["pay"].round(6))


def test_the_gain_over_the_mixture_is_told() -> None:
    gain = _fitted().held_out_gain_
    assert gain is not None and gain >= 0
    without = EnergySynthesizer(
        n_components=1, hidden_layer_sizes=(8,), max_iter=5, validation_fraction=0.0, random_state=0
    ).fit(_people(100, 0))
    assert without.held_out_gain_ is None
