"""What a schema makes of columns of every kind."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from chainfree.datasets import DataError, data_dir
from chainfree.tables import CategoryColumn, NumberColumn, Schema

ROWS = 40


def _frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "height": rng.normal(size=ROWS),
            "age": rng.integers(18, 90, ROWS),
            "children": rng.integers(0, 5, ROWS),
            "smokes": rng.integers(0, 2, ROWS),
            "member": rng.random(ROWS) > 0.5,
            "town": rng.choice(["Ulm", "Aachen", "Bonn"], ROWS),
            "grade": pd.Categorical(rng.choice(["low", "high"], ROWS), categories=["low", "mid", "high"], ordered=True),
            "day": rng.choice(["Mon", "Tue", "Wed"], ROWS),
            "born": pd.date_range("1970-01-02", periods=ROWS, freq="12h"),
        }
    )


def test_kinds_are_those_of_types_and_values() -> None:
    week = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
    frame = _frame()
    found = {column.name: column for column in Schema.infer(frame, cyclic={"day": week}).columns}
    assert list(found) == list(frame.columns)
    assert found["height"] == NumberColumn(name="height", low=frame["height"].min(), high=frame["height"].max())
    assert found["age"] == NumberColumn(name="age", whole=True, low=frame["age"].min(), high=frame["age"].max())
    assert found["children"] == CategoryColumn(name="children", values=(0, 1, 2, 3, 4), order="ordinal")
    assert found["smokes"] == CategoryColumn(name="smokes", values=(0, 1))
    assert found["member"] == CategoryColumn(name="member", values=(False, True))
    assert found["town"] == CategoryColumn(name="town", values=("Aachen", "Bonn", "Ulm"))
    assert found["grade"] == CategoryColumn(name="grade", values=("low", "mid", "high"), order="ordinal")
    assert found["day"] == CategoryColumn(name="day", values=tuple(week), order="cyclic")
    assert found["born"] == NumberColumn(name="born", dates=True, low=1.0, high=1 + (ROWS - 1) / 2, decimals=0)


def test_missing_cells_change_no_kind() -> None:
    frame = _frame()
    holes = frame.mask(np.random.default_rng(1).random(frame.shape) < 0.2)
    full = Schema.infer(frame, nominal=["children"], numeric=["smokes"])
    for gone in (holes, holes.convert_dtypes()):
        found = Schema.infer(gone, nominal=["children"], numeric=["smokes"])
        for before, after in zip(full.columns, found.columns, strict=True):
            assert after.missing and not before.missing
            assert type(after) is type(before)
            if isinstance(after, CategoryColumn) and isinstance(before, CategoryColumn):
                assert (after.values, after.order) == (before.values, before.order)
            elif isinstance(after, NumberColumn) and isinstance(before, NumberColumn):
                assert (after.whole, after.dates) == (before.whole, before.dates)
                assert before.low <= after.low <= after.high <= before.high


def test_an_arrow_table_is_the_same_as_a_pandas_frame() -> None:
    frame = _frame().drop(columns="grade")  # the order of a type is pandas' own
    assert Schema.infer(pa.Table.from_pandas(frame)) == Schema.infer(frame)


def test_a_schema_goes_through_json() -> None:
    schema = Schema.infer(_frame(), cyclic=["day"])
    assert Schema.from_dict(json.loads(json.dumps(schema.to_dict()))) == schema
    for wrong in (
        {},
        {"columns": [{"kind": "picture"}]},
        {"columns": [{"kind": "number", "colour": 1}]},
        {"columns": 3},
    ):
        with pytest.raises(DataError, match="no schema of a table"):
            Schema.from_dict(wrong)


@pytest.mark.parametrize(
    ("frame", "options", "words"),
    [
        ([1, 2], {}, "this is no table"),
        (pd.DataFrame(), {}, "0 rows and 0 columns"),
        (pd.DataFrame({"a": []}), {}, "0 rows and 1 columns"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), {}, "2 columns called 'a'; rename them"),
        (pd.DataFrame([[1, 2]], columns=["a", 3]), {}, "must be text, got 3; rename it"),
        (pd.DataFrame({"a": [np.nan, np.nan]}), {}, "'a' has no value in any row; drop it"),
        (pd.DataFrame({"a": [None, None]}), {}, "'a' has no value in any row; drop it"),
        (pd.DataFrame({"a": [0.0, np.inf]}), {}, "'a' has infinite values; make them missing, or clip them"),
        (pd.DataFrame({"a": ["x", 3]}), {}, "'a' mixes numbers and text; make it one type"),
        (pd.DataFrame({"a": [True, "x", None]}), {}, "'a' mixes booleans and text"),
        (pd.DataFrame({"a": [[1], [2]]}), {}, "'a' holds list, which is no cell of a table; drop it"),
        (
            pd.DataFrame({"a": [f"id{k}" for k in range(200)]}),
            {},
            "200 values in 200 rows, as names of rows have; drop it",
        ),
        (pd.DataFrame({"a": ["x", "y"]}), {"numeric": ["a"]}, "'a' is to be numeric and holds text"),
        (pd.DataFrame({"a": ["x", "y"]}), {"ordinal": {"a": ["x", "z"]}}, "'a' has 'y', which is not among its values"),
        (pd.DataFrame({"a": ["x", "y"]}), {"cyclic": ["b"]}, "there is no column 'b'; the table has a"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(frame: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        Schema.infer(frame, **options)
    assert "\n" not in str(caught.value)


def test_few_rows_of_text_are_no_names_of_rows() -> None:
    (column,) = Schema.infer(pd.DataFrame({"a": [f"id{k}" for k in range(50)]})).columns
    assert isinstance(column, CategoryColumn) and len(column.values) == 50


def test_objects_that_are_all_numbers_are_numbers() -> None:
    frame = pd.DataFrame(
        {"a": pd.Series([1.5, None, *range(30)], dtype=object), "b": pd.Series([True, None] * 16, dtype=object)}
    )
    a, b = Schema.infer(frame).columns
    assert a == NumberColumn(name="a", low=0.0, high=29.0, missing=True, decimals=1)
    assert b == CategoryColumn(name="b", values=(True,), missing=True)


@pytest.mark.skipif(data_dir() is None, reason="CHAINFREE_DATA names no folder")
def test_the_census_as_text() -> None:
    frame = pd.read_csv(data_dir() / "tabular" / "adult_train.csv.gz")  # type: ignore[operator]
    found = {column.name: column for column in Schema.infer(frame).columns}
    numbers = {name for name, column in found.items() if isinstance(column, NumberColumn)}
    assert numbers >= {"age", "fnlwgt"} and all(found[name].whole for name in numbers)  # type: ignore[union-attr]
    assert {name for name, column in found.items() if column.missing} == set(frame.columns[frame.isna().any()])
    assert len(found["income"].values) == 2  # type: ignore[union-attr]
