"""Tables with columns of every kind, from the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from chainfree.estimators import EnergyOutlierDetector, load

Run = Callable[..., Any]


@pytest.fixture
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    town = rng.choice(["Ulm", "Bonn"], 200)
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 90, 200),
            "town": town,
            "pay": np.where(rng.random(200) < 0.2, np.nan, 2000 + 500 * (town == "Ulm") + rng.normal(0, 50, 200)),
            "income": np.where(rng.random(200) < 0.5, "high", "low"),
        }
    )
    frame.to_csv("people.csv", index=False)
    return frame


@pytest.mark.parametrize("task", ["outlier", "density", "classifier"])
@pytest.mark.usefixtures("table")
def test_what_is_trained_scores_files(task: str, chainfree: Run) -> None:
    label = ("--label", "income") if task == "classifier" else ("--drop", "income")
    ended = chainfree("train", "--data", "people.csv", "--task", task, *label, "--steps", "5", "--threads", "1")
    assert ended.status == 0, ended.err
    assert "columns" in ended.out and f"runs/people-{task}" in ended.out
    ended = chainfree("score", f"runs/people-{task}", "people.csv", "--out", "scores.csv")
    assert ended.status == 0, ended.err
    assert ended.out.strip().startswith("200 rows scored to scores.csv")
    assert ("of them outliers" in ended.out) == (task == "outlier")
    scores = pd.read_csv("scores.csv")
    estimator: Any = load(f"runs/people-{task}")
    frame = pd.read_csv("people.csv")[["age", "town", "pay"]]
    if task == "density":
        np.testing.assert_allclose(scores["log_density"], estimator.score_samples(frame))
    elif task == "outlier":
        assert list(scores.columns) == ["energy", "p_value", "outlier"]
        np.testing.assert_allclose(scores["energy"], -estimator.score_samples(frame))
        assert (scores["outlier"] == (estimator.predict(frame) == -1)).all()
    else:
        assert list(scores.columns) == ["prediction", "p(high)", "p(low)"]
        np.testing.assert_allclose(scores["p(low)"], estimator.predict_proba(frame)[:, 1])
        assert (scores["prediction"] == estimator.predict(frame)).all()


def test_cells_are_filled(table: pd.DataFrame, chainfree: Run) -> None:
    table.assign(name=[f"person {i}" for i in range(200)]).to_parquet("people.parquet")
    ended = chainfree(
        "train",
        "--data",
        "people.parquet",
        "--task",
        "impute",
        "--drop",
        "name,income",
        "--steps",
        "5",
        "--out",
        "filler",
    )
    assert ended.status == 0, ended.err
    ended = chainfree("impute", "filler", "people.parquet", "--out", "filled.parquet")
    assert ended.status == 0, ended.err
    gone = table["pay"].isna()
    assert ended.out.strip() == f"{gone.sum()} cells of 200 rows filled, written to filled.parquet"
    filled = pd.read_parquet("filled.parquet")
    assert list(filled.columns) == ["age", "town", "pay", "income", "name"]
    assert not filled["pay"].isna().any()
    pd.testing.assert_series_equal(filled["pay"][~gone], table["pay"][~gone])
    filled.assign(income=filled["income"].where(filled["age"] > 50)).to_parquet("holed.parquet")
    ended = chainfree("impute", "filler", "holed.parquet", "--out", "again.parquet")
    left = (table["age"] <= 50).sum()
    assert f"{left} are still missing in columns that were not fitted: income" in ended.out


@pytest.mark.usefixtures("table")
def test_rows_are_made_given_columns(chainfree: Run) -> None:
    ended = chainfree("train", "--data", "people.csv", "--task", "synthesize", "--steps", "5")
    assert ended.status == 0, ended.err
    where = ("runs/people-synthesize", "--rows", "50")
    ended = chainfree("sample", *where, "--out", "new.csv.gz", "--given", "town=Ulm, age=40,pay=", "--seed", "1")
    assert ended.status == 0, ended.err
    rows = pd.read_csv("new.csv.gz")
    assert len(rows) == 50 and (rows["town"] == "Ulm").all() and (rows["age"] == 40).all() and rows["pay"].isna().all()
    assert chainfree("sample", *where, "--out", "again.csv.gz", "--seed", "1").status == 0
    for given, message in {
        "town=Wien": "'town' has no 'Wien'; it has 'Bonn', 'Ulm'",
        "size=1": "there is no column 'size'",
        "town": "--given takes COLUMN=VALUE",
        "age=old": "'age' takes a number, got 'old'",
        "age=40.5": "'age' holds whole numbers, got 40.5",
        '"town=Ulm, DE"': "'town' has no 'Ulm, DE'",
        "town=Ulm, DE": 'with commas in it "COLUMN=VALUE"',
    }.items():
        ended = chainfree("sample", *where, "--out", "new.csv", "--given", given)
        assert ended.status == 2 and message in ended.err, (given, ended.err)
    ended = chainfree("sample", "runs/nothere", "--out", "new.csv", "--given", "town=Ulm")
    assert ended.status == 2 and "runs/nothere" in ended.err and "--given" not in ended.err
    ended = chainfree("sample", *where, "--out", "old.csv", "--given", "age=120")
    assert ended.status == 0 and "age=120 is beyond the table's 18 to 89: a guess" in ended.out
    assert (pd.read_csv("old.csv")["age"] == 120).all()


def test_files_are_taken_in_parts(table: pd.DataFrame, chainfree: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        chainfree("train", "--data", "people.csv", "--task", "outlier", "--drop", "income", "--steps", "5").status == 0
    )
    whole = chainfree("score", "runs/people-outlier", "people.csv", "--out", "whole.parquet")
    monkeypatch.setattr("chainfree.tables.files._PART", 30)
    parts = chainfree("score", "runs/people-outlier", "people.csv", "--out", "parts.parquet")
    assert whole.status == parts.status == 0, parts.err
    pd.testing.assert_frame_equal(pd.read_parquet("whole.parquet"), pd.read_parquet("parts.parquet"))
    table.to_parquet("people.parquet")
    assert chainfree("score", "runs/people-outlier", "people.parquet", "--out", "other.csv").status == 0
    np.testing.assert_allclose(pd.read_csv("other.csv")["energy"], pd.read_parquet("whole.parquet")["energy"])


@pytest.mark.usefixtures("table")
def test_refusals(chainfree: Run) -> None:
    Path("empty.csv").write_text("a,b\n")
    Path("notes.txt").write_text("a,b\n1,2\n")
    for arguments, message in {
        ("train", "--data", "people.csv", "--task", "outliers"): "task",
        ("train", "--data", "people.csv", "--task", "classifier"): "give --label COLUMN with --task classifier",
        ("train", "--data", "people.csv", "--task", "density", "--label", "income"): "and with no other task",
        ("train", "--data", "people.csv", "--task", "classifier", "--label", "class"): "has no column 'class'",
        ("train", "--data", "people.csv", "--task", "density", "--drop", "size"): "has no column 'size' to drop",
        ("train", "--data", "nothing.csv", "--task", "density"): "there is no file nothing.csv",
        ("train", "--data", "empty.csv", "--task", "density"): "a header and no rows",
        ("train", "--data", "notes.txt", "--task", "density"): "give a file that ends in .csv",
    }.items():
        ended = chainfree(*arguments)
        assert ended.status == 2 and message in ended.err and ended.err.count("\n") == 1, (arguments, ended.err)
    assert (
        chainfree("train", "--data", "people.csv", "--task", "outlier", "--drop", "income", "--steps", "5").status == 0
    )
    Path("few.csv").write_text("age\n3\n")
    for arguments, message in {
        ("score", "runs/people-outlier", "few.csv", "--out", "s.csv"): "has no column 'town', which was fitted",
        ("score", "runs/people-outlier", "people.csv", "--out", "s.txt"): "--out must end in .csv, .csv.gz or .parquet",
        ("sample", "runs/people-outlier", "--out", "s.csv"): "train one with --task synthesize",
        ("impute", "runs/people-outlier", "people.csv", "--out", "s.csv"): "train one with --task impute",
        ("impute", "runs/none", "people.csv", "--out", "s.csv"): "holds no estimator",
        ("evaluate", "runs/people-outlier"): "was made by chainfree train --task; use chainfree score",
        (
            "train",
            "--data",
            "people.csv",
            "--task",
            "outlier",
            "--out",
            "runs/people-outlier",
        ): "exists; choose another --out",
        ("train", "--data", "people.csv", "--task", "outlier", "--steps", "-5"): "--steps must be 0 or more, got -5",
        ("train", "--data", "people.csv", "--task", "outlier", "--device", "warp"): "device 'warp' cannot be used",
        ("train", "--data", "people.csv"): "or fit the table with --task",
    }.items():
        ended = chainfree(*arguments)
        assert ended.status == 2 and message in ended.err, (arguments, ended.err)
    assert not Path("s.csv").exists()
    assert isinstance(load("runs/people-outlier"), EnergyOutlierDetector)


@pytest.mark.usefixtures("table")
def test_a_run_is_not_written_over_and_says_what_it_is_for(chainfree: Run) -> None:
    for _ in range(2):
        arguments = ("train", "--data", "people.csv", "--task", "synthesize", "--drop", "income", "--steps", "5")
        assert chainfree(*arguments).status == 0
    assert Path("runs/people-synthesize-2/estimator.json").is_file()
    ended = chainfree("score", "runs/people-synthesize", "people.csv", "--out", "s.csv")
    assert ended.status == 2 and "scores nothing; use chainfree sample" in ended.err
    given = ("--given", "town=Ulm,town=Bonn")
    ended = chainfree("sample", "runs/people-synthesize", "--rows", "5", *given, "--out", "s.csv")
    assert ended.status == 2 and "--given names town twice" in ended.err


def test_digits_of_a_text_column_are_text_in_every_file(chainfree: Run) -> None:
    codes = ["1", "2", "A"] * 40
    pd.DataFrame({"code": codes, "x": np.arange(120) % 7}).to_csv("codes.csv", index=False)
    pd.DataFrame({"code": ["1", "2"], "x": [3, 4]}).to_csv("digits.csv", index=False)
    assert chainfree("train", "--data", "codes.csv", "--task", "density", "--steps", "5").status == 0
    assert chainfree("score", "runs/codes-density", "digits.csv", "--out", "scores.csv").status == 0
    scores = pd.read_csv("scores.csv")["log_density"]
    estimator: Any = load("runs/codes-density")
    expected = estimator.score_samples(pd.DataFrame({"code": ["1", "2"], "x": [3, 4]}))
    np.testing.assert_allclose(scores, expected)
    assert (scores > -6).all()
