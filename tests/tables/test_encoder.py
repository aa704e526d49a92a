"""The way from tables to tensors and back."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

import chainfree as cf
from chainfree.datasets import DataError
from chainfree.tables import EncodedColumn, NumberColumn, Scaling, Schema, TableEncoder

ROWS = 300


def _frame(seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "income": rng.lognormal(size=ROWS),
            "age": rng.integers(18, 90, ROWS),
            "grade": pd.Categorical(rng.choice(["low", "high"], ROWS), categories=["low", "mid", "high"], ordered=True),
            "town": rng.choice(["Ulm", "Aachen", "Bonn"], ROWS),
            "member": rng.random(ROWS) > 0.5,
            "children": rng.integers(0, 5, ROWS),
            "born": pd.date_range("1970-01-02", periods=ROWS, freq="12h"),
        }
    )


def _holes(frame: pd.DataFrame) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    gone = {name: frame[name].astype(object).where(rng.random(len(frame)) > 0.2) for name in ("town", "member")}
    numbers = {name: frame[name].where(rng.random(len(frame)) > 0.2) for name in ("income", "age", "born")}
    return frame.assign(**gone, **numbers)


def _fitted(frame: pd.DataFrame, **options: Any) -> TableEncoder:
    return TableEncoder(Schema.infer(frame), **options).fit(frame)


@pytest.mark.parametrize("scaling", ["standard", "bent", "quantile"])
@pytest.mark.parametrize("reserve", [False, True])
@pytest.mark.parametrize("holes", [False, True])
def test_the_way_back_is_exact(scaling: Scaling, reserve: bool, holes: bool) -> None:
    frame = _holes(_frame()) if holes else _frame()
    encoder = _fitted(frame, scaling=scaling, reserve=reserve)
    x = encoder.encode(frame)
    assert x.shape == (ROWS, len(encoder.columns)) and x.dtype == torch.float32
    assert encoder.report == ({}, {}, {})
    back = encoder.decode(x)
    assert list(back.columns) == list(frame.columns)
    for name in frame:
        assert back[name].isna().tolist() == frame[name].isna().tolist(), name
        there = ~frame[name].isna()
        if name == "income":
            np.testing.assert_allclose(back[name][there], frame[name][there], rtol=2e-3)  # float32 of a quantile
        elif name == "born":
            assert (back[name] - frame[name])[there].abs().max() < pd.Timedelta(minutes=5)
        else:
            assert back[name][there].tolist() == frame[name][there].tolist(), name
    if not holes:
        assert str(back["age"].dtype) == "int64" and str(back["member"].dtype) == "bool"
        assert back["grade"].cat.ordered and list(back["grade"].cat.categories) == ["low", "mid", "high"]


def test_numbers_are_scaled_and_codes_are_places_in_the_schema() -> None:
    frame = _frame()
    encoder = _fitted(frame, scaling="standard")
    x = encoder.encode(frame)
    assert encoder.columns == (
        EncodedColumn("income"),
        EncodedColumn("age"),
        EncodedColumn("grade", 3, "ordinal"),
        EncodedColumn("town", 3),
        EncodedColumn("member", 2),
        EncodedColumn("children", 5, "ordinal"),
        EncodedColumn("born"),
    )
    assert encoder.sizes == [None, None, 3, 3, 2, 5, None]
    expected = (frame["age"] - frame["age"].mean()) / frame["age"].std(ddof=0)
    np.testing.assert_allclose(x[:, 1], expected, atol=1e-6)
    assert (x[:, 3] == torch.tensor(frame["town"].map({"Aachen": 0, "Bonn": 1, "Ulm": 2}).to_numpy())).all()
    days = (frame["born"] - frame["born"].iloc[0]).dt.total_seconds() / 86_400
    scale = np.log([frame["income"].std(ddof=0), frame["age"].std(ddof=0), days.std(ddof=0)]).sum()
    np.testing.assert_allclose(encoder.log_abs_det(x), -scale, rtol=1e-6)
    by_rank = _fitted(frame).encode(frame)[:, 0]
    assert stats.kstest(by_rank.numpy(), "norm").pvalue > 0.5
    with pytest.raises(ValueError, match="use standard or bent"):
        _fitted(frame).log_abs_det(x)


def test_a_missing_number_is_a_standard_normal_and_a_state() -> None:
    frame = pd.concat([_holes(_frame(seed)) for seed in range(10)], ignore_index=True)
    encoder = _fitted(frame)
    x = encoder.encode(frame, generator=torch.Generator().manual_seed(0))
    value, state = x[:, 0], x[:, 1]
    gone = torch.tensor(frame["income"].isna().tolist())
    assert encoder.columns[1] == EncodedColumn("income", 2, is_state=True)
    assert torch.equal(state == 1, gone) and torch.equal(encoder.hidden(x)[:, 0], gone)
    assert stats.kstest(value[gone].numpy(), "norm").pvalue > 1e-3
    assert (encoder.encode(frame)[gone, 0] == 0).all()


def test_values_that_many_rows_share_are_states_of_their_own() -> None:
    rng = np.random.default_rng(0)
    gains = np.where(rng.random(2000) < 0.8, 0.0, rng.lognormal(8, 1, 2000))
    hours = np.where(rng.random(2000) < 0.5, 40, rng.integers(1, 99, 2000))
    frame = pd.DataFrame({"gains": gains, "hours": np.where(rng.random(2000) < 0.1, np.nan, hours)})
    encoder = _fitted(frame, scaling="standard")
    assert encoder.columns == (
        EncodedColumn("gains"),
        EncodedColumn("gains", 2, is_state=True),
        EncodedColumn("hours"),
        EncodedColumn("hours", 3, is_state=True),
    )
    x = encoder.encode(frame, generator=torch.Generator().manual_seed(0))
    assert torch.equal(x[:, 1], torch.from_numpy(gains == 0).float())
    expected = np.select([frame["hours"] == 40, frame["hours"].isna()], [1, 2], 0)
    assert torch.equal(x[:, 3], torch.from_numpy(expected).float())
    assert stats.kstest(x[x[:, 1] == 1, 0].numpy(), "norm").pvalue > 1e-3
    shown = frame["gains"][gains > 0]
    np.testing.assert_allclose(
        encoder.encode(frame)[gains > 0, 0], (shown - shown.mean()) / shown.std(ddof=0), atol=1e-5
    )
    back = encoder.decode(x)
    assert (back["gains"][gains == 0] == 0).all() and back["hours"].isna().equals(frame["hours"].isna())
    assert back["hours"].dropna().tolist() == frame["hours"].dropna().tolist()
    # a hidden number has no unit
    units = -encoder.log_abs_det(x)
    others = frame["hours"][(frame["hours"] != 40) & frame["hours"].notna()]
    by_hand = np.where(gains > 0, np.log(shown.std(ddof=0)), 0) + np.where(expected == 0, np.log(others.std(ddof=0)), 0)
    np.testing.assert_allclose(units, by_hand, rtol=1e-5)
    few_rows = Schema.infer(frame[:12]).columns[0]
    assert isinstance(few_rows, NumberColumn) and few_rows.atoms == ()


def test_whole_numbers_are_spread_over_their_unit_for_training() -> None:
    frame = pd.DataFrame({"a": np.arange(1000) % 50})
    encoder = _fitted(frame, scaling="standard")
    spread = encoder.encode(frame, generator=torch.Generator().manual_seed(0))
    away = (spread - encoder.encode(frame)).flatten().double().numpy() * frame["a"].std(ddof=0)
    assert stats.kstest(away, stats.uniform(-0.5, 1).cdf).pvalue > 1e-3
    assert encoder.report.outside == {}
    assert encoder.decode(spread)["a"].tolist() == frame["a"].tolist()


def test_the_step_of_a_column_is_for_what_is_made_and_not_for_scores() -> None:
    frame = pd.DataFrame({"a": 1000 * (np.arange(1000) % 50), "b": np.full(1000, 2024)})
    encoder = TableEncoder(Schema.infer(frame, numeric=["b"]), scaling="standard").fit(frame)
    spread = encoder.encode(frame, generator=torch.Generator().manual_seed(0))
    away = (spread - encoder.encode(frame))[:, 0].double().numpy() * frame["a"].std(ddof=0)
    assert np.abs(away).max() <= 0.501  # a spread of a thousand would blind scores to what is between
    encoder.encode(pd.DataFrame({"a": [500], "b": [2025]}))
    assert encoder.report.outside == {"b": 1}
    assert encoder.decode(spread + 0.01)["a"].tolist() == frame["a"].tolist()


def test_what_was_not_there_is_told_or_refused() -> None:
    frame = _frame()
    strange = frame.assign(
        town=["Wien", *frame["town"][1:]],
        income=[1e6, *frame["income"][1:]],
        member=[None, *frame["member"][1:]],
    )
    open_to_all = _fitted(frame, reserve=True)
    x = open_to_all.encode(strange)
    assert open_to_all.report == ({"town": 1}, {"income": 1}, {"member": 1})
    towns = EncodedColumn("town", 5, reserved=2)
    assert open_to_all.columns[open_to_all.places("town")[0]] == towns and towns.seen == 3
    # a kernel leads to nothing that no row has, and an order stays one
    perturbed = open_to_all.perturbation(time=5.0).perturb(open_to_all.encode(frame)).y
    assert perturbed[:, open_to_all.places("town")[0]].max() == 2
    assert open_to_all.columns[open_to_all.places("grade")[0]].order == "ordinal"
    back = open_to_all.decode(x)
    assert pd.isna(back["town"][0]) and pd.isna(back["member"][0])
    closed = _fitted(frame)
    with pytest.raises(DataError, match=r"'town' has categories that it did not have \(1 rows\); keep a code"):
        closed.encode(strange)
    for encoder in (closed, open_to_all):
        with pytest.raises(DataError, match=r"'income' has missing cells and had none \(1 rows\); fill them"):
            encoder.encode(frame.assign(income=[np.nan, *frame["income"][1:]]))
    with pytest.raises(DataError, match="no column 'town'; it has income"):
        closed.encode(frame.drop(columns="town"))
    with pytest.raises(DataError, match="'age' held numbers and holds text now"):
        closed.encode(frame.assign(age="old"))
    with pytest.raises(DataError, match="'age' has infinite values"):
        closed.encode(frame.assign(age=np.inf))
    with pytest.raises(DataError, match="call fit first"):
        TableEncoder(Schema.infer(frame)).encode(frame)
    with pytest.raises(ValueError, match="scaling must be"):
        _fitted(frame, scaling="log")


@pytest.mark.parametrize("scaling", ["standard", "bent", "quantile"])
def test_it_goes_through_json(scaling: Scaling) -> None:
    frame = _holes(_frame())
    encoder = _fitted(frame, scaling=scaling, reserve=True)
    again = TableEncoder.from_dict(json.loads(json.dumps(encoder.to_dict())))
    assert torch.equal(again.encode(frame), encoder.encode(frame))
    pd.testing.assert_frame_equal(again.decode(encoder.encode(frame)), encoder.decode(encoder.encode(frame)))


def test_bent_tails_have_the_slope_of_a_difference() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"tail": rng.standard_t(2, 500), "even": rng.normal(3, 2, 500), "one": 7.5})
    frame.loc[:50, "even"] = np.nan
    encoder = TableEncoder(Schema.infer(frame, numeric=["one"]), scaling="bent").fit(frame)
    x = encoder.encode(frame)
    assert x[:, 0].abs().max() < 6 < frame["tail"].abs().max() / frame["tail"].std()
    assert (x[:, 3] == 0).all()
    step = 1e-3
    moved = encoder.encode(frame + step)
    shown = ~frame["even"].isna().to_numpy()
    slope = ((moved - x) / step).double().log()
    by_difference = slope[:, 0] + np.where(shown, slope[:, 1], 0.0)
    np.testing.assert_allclose(encoder.log_abs_det(x), by_difference, atol=2e-2)


def test_columns_may_come_in_another_order_and_others_are_left_out() -> None:
    frame = _frame()
    encoder = _fitted(frame)
    turned = frame[frame.columns[::-1]].assign(more=1)
    assert torch.equal(encoder.encode(turned), encoder.encode(frame))


def test_perturbations_know_the_columns() -> None:
    frame = _holes(_frame()).assign(one="same", day=np.arange(ROWS) % 7)
    encoder = TableEncoder(Schema.infer(frame, cyclic=["day"]), scaling="standard").fit(frame)
    x = encoder.encode(frame).repeat(20, 1)
    time = 0.7
    kernel = encoder.perturbation(noise=0.05, time=time)
    y = kernel.perturb(x, generator=torch.Generator().manual_seed(0)).y
    for place, column in enumerate(encoder.columns):
        if column.size is None:
            away = (y - x)[:, place].double().numpy() / 0.05
            assert stats.kstest(away, "norm").pvalue > 1e-4, column
        elif column.size == 1:
            assert torch.equal(y[:, place], x[:, place])
        elif column.order == "nominal":
            stays = float((y[:, place] == x[:, place]).double().mean())
            assert stays == pytest.approx(np.exp(-time) + (1 - np.exp(-time)) / column.size, abs=0.03), column
        else:
            # of the slowest wave of the path or circle, e^-time is left
            turns = np.pi if column.order == "ordinal" else 2 * np.pi
            shift = 0.5 if column.order == "ordinal" else 0.0
            before, after = (np.cos(turns * (rows[:, place].double().numpy() + shift) / column.size) for rows in (x, y))
            assert (before * after).mean() / (before**2).mean() == pytest.approx(np.exp(-time), abs=0.03), column
    constant = pd.DataFrame({"a": ["same"] * 5})
    with pytest.raises(ValueError, match="can change"):
        TableEncoder(Schema.infer(constant)).fit(constant).perturbation()


def test_an_energy_of_a_table_with_missing_cells_is_learned() -> None:
    """Incomes that depend on the town, and are missing more often in one: shares and means by a grid of the energy."""
    rng = np.random.default_rng(0)
    town = rng.choice(["Aachen", "Ulm"], 6000, p=[0.3, 0.7])
    income = np.where(town == "Ulm", 2.0, -1.0) + rng.normal(size=6000)
    gone = rng.random(6000) < np.where(town == "Ulm", 0.4, 0.1)
    frame = pd.DataFrame({"town": town, "income": np.where(gone, np.nan, income)})
    encoder = _fitted(frame, scaling="standard")
    torch.manual_seed(0)
    energy = cf.energies.TabularMLP(encoder.sizes, states=encoder.states, width=64, depth=2)
    loss = cf.losses.EnergyDiscrepancy(perturbation=encoder.perturbation(noise=0.7), draws=8)
    engine = cf.Engine(energy, loss, seed=0)
    engine.fit(cf.batches(encoder.encode(frame, generator=torch.Generator().manual_seed(0)), size=256), steps=1000)
    places = torch.linspace(-5, 5, 201)
    grid = torch.cartesian_prod(torch.arange(2.0), places, torch.arange(2.0))
    with torch.no_grad():
        mass = torch.softmax(-engine.averaged_energy()(grid), 0).view(2, 201, 2)
    shares = mass.sum(1)
    truth = torch.tensor([[0.3 * 0.9, 0.3 * 0.1], [0.7 * 0.6, 0.7 * 0.4]])
    torch.testing.assert_close(shares, truth, atol=0.04, rtol=0)
    means = (mass[:, :, 0] * places).sum(1) / shares[:, 0]
    scaled = torch.from_numpy(encoder.encode(pd.DataFrame({"town": ["Ulm"] * 2, "income": [-1.0, 2.0]})).numpy()[:, 1])
    torch.testing.assert_close(means, scaled, atol=0.08, rtol=0)


def test_kinds_that_change_are_refused() -> None:
    """Digits that a file's part holds alone are numbers to whoever reads it."""
    frame = pd.DataFrame({"c": ["1", "2", "A"] * 10, "member": [True, False, True] * 10})
    encoder = _fitted(frame, reserve=True)
    with pytest.raises(DataError, match="'c' held text and holds numbers now; make it what it was, as read_file does"):
        encoder.encode(frame.assign(c=1))
    with pytest.raises(DataError, match="'member' held booleans and holds text now"):
        encoder.encode(frame.assign(member="yes"))
    assert (encoder.encode(frame.assign(c=None))[:, 0] == 3).all()


def test_decimals_are_numbers_and_durations_are_refused() -> None:
    import decimal

    import pyarrow

    cells = [decimal.Decimal(f"{place}.25") for place in range(50)]
    table = pyarrow.table({"price": pyarrow.array(cells, pyarrow.decimal128(10, 2))})
    schema = Schema.infer(table)
    assert isinstance(schema.columns[0], NumberColumn) and schema.columns[0].high == 49.25
    TableEncoder(schema).fit(table).encode(table)
    with pytest.raises(DataError, match="'wait' holds Duration"):
        Schema.infer(pd.DataFrame({"wait": pd.to_timedelta(np.arange(30) ** 2, unit="min")}))


def test_whole_numbers_and_days_stay_so_however_far_draws_go() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"w": np.floor(np.exp(rng.normal(30, 6, 400))), "day": pd.date_range("2020-01-01", periods=400)}
    )
    encoder = _fitted(frame, scaling="bent")
    back = encoder.decode(torch.tensor([[40.0, 0.1], [-40.0, 30.0], [0.0, -30.0]]))
    assert abs(int(back["w"][0])) == 2**62 or int(back["w"][0]) > frame["w"].max()
    assert (back["day"].dt.normalize() == back["day"]).all()


def test_small_units_are_units() -> None:
    frame = pd.DataFrame({"a": np.random.default_rng(0).normal(size=100) * 1e-13})
    assert float(_fitted(frame, scaling="standard").encode(frame).std()) == pytest.approx(1.0, abs=0.02)
