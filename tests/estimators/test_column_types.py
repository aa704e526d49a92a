"""Rows that are made have the types of the rows that were fitted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from chainfree.estimators import EnergyDensity, EnergySynthesizer, load
from chainfree.estimators.column_types import cast_pandas
from chainfree.tables import NumberColumn

N = 120


def _table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    days = pd.date_range("2024-03-25", periods=N, freq="h")
    half = rng.random(N) < 0.3
    return pd.DataFrame(
        {
            "zoned": days.tz_localize("UTC").tz_convert("Europe/Berlin"),
            "seconds": days.astype("datetime64[s]"),
            "single": rng.normal(size=N).astype("float32"),
            "short": rng.integers(0, 100, N).astype("int8"),
            "natural": rng.integers(0, 1000, N).astype("uint16"),
            "holed": pd.Series(rng.integers(0, 1000, N)).astype("Int32").mask(half),
            "whole": pd.Series(rng.integers(0, 1000, N)).astype("float64").mask(half),
            "town": pd.Categorical(rng.choice(["Ulm", "Bonn"], N), categories=["Ulm", "Bonn", "Wien"]),
            "grade": pd.Categorical(rng.choice(["low", "high"], N), categories=["low", "high"], ordered=True),
            "name": pd.Series(rng.choice(["a", "b"], N)).astype("string"),
            "yes": rng.random(N) < 0.5,
            "maybe": pd.Series(rng.random(N) < 0.5).astype("boolean").mask(half),
            "arrow": pd.Series(rng.integers(0, 1000, N)).astype("int32[pyarrow]"),
        }
    )


def _quick(kind: type = EnergySynthesizer) -> Any:
    return kind(n_components=2, n_mixtures=1, max_iter=5, hidden_layer_sizes=(8,), random_state=0)


@pytest.mark.parametrize("kind", [EnergySynthesizer, EnergyDensity])
def test_pandas_types_come_back(kind: type, tmp_path: Path) -> None:
    table = _table()
    fitted = _quick(kind).fit(table)
    made = fitted.sample(200, random_state=0)
    assert made.drop(columns="town").dtypes.equals(table.drop(columns="town").dtypes)
    assert set(made["town"].cat.categories) >= {"Ulm", "Bonn"} and not made["town"].cat.ordered
    assert made["holed"].isna().any() and made["whole"].isna().any()
    assert (made["whole"].dropna() == made["whole"].dropna().round()).all()
    # the same instants, on the clocks of the zone
    assert made["zoned"].dt.tz_convert("UTC").between("2024-03-20", "2024-04-05").all()
    fitted.save(tmp_path / "model")
    pd.testing.assert_frame_equal(load(tmp_path / "model").sample(200, random_state=0), made)
    if kind is EnergyDensity:
        assert not np.isnan(fitted.score_samples(table)).any()


def test_types_of_arrow_come_back() -> None:
    kinds = {
        "zoned": pa.timestamp("us", "Europe/Berlin"),
        "day": pa.date32(),
        "short": pa.int16(),
        "single": pa.float32(),
        "town": pa.string(),
        "yes": pa.bool_(),
        "code": pa.dictionary(pa.uint32(), pa.string()),
    }
    frame = _table()
    columns = {
        "zoned": frame["zoned"],
        "day": frame["seconds"].dt.date,
        "short": frame["natural"],
        "single": frame["single"],
        "town": frame["town"].astype("str"),
        "yes": frame["yes"],
        "code": frame["grade"].astype("str"),
    }
    table = pa.table({name: pa.array(values, type=kinds[name], from_pandas=True) for name, values in columns.items()})
    made = _quick().fit(table).sample(50, random_state=0)
    assert isinstance(made, pa.Table)
    assert {name: made.schema.field(name).type for name in kinds} == kinds


def test_whole_numbers_beyond_a_type_become_its_ends() -> None:
    column = NumberColumn(name="a", whole=True, low=-100.0, high=100.0)
    made = cast_pandas(pd.DataFrame({"a": [-500, 3, 500]}), {"a": "int8"}, [column])
    assert made["a"].tolist() == [-128, 3, 127] and made["a"].dtype == np.int8
    holed = cast_pandas(pd.DataFrame({"a": pd.array([1, None], dtype="Int64")}), {"a": "int8"}, [column])
    assert str(holed["a"].dtype) == "Int8" and holed["a"].isna().tolist() == [False, True]
    unsigned = cast_pandas(pd.DataFrame({"a": pd.array([-1, None], dtype="Int64")}), {"a": "uint8"}, [column])
    assert str(unsigned["a"].dtype) == "UInt8" and unsigned["a"][0] == 0
