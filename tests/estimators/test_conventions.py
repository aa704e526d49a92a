"""scikit-learn's own checks of every estimator, small so that they are quick; and what all of ours share."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

from chainfree.datasets import DataError
from chainfree.estimators import EnergyDensity, EnergyOutlierDetector
from chainfree.estimators.base import TableEstimator
from chainfree.tables import Schema

SMALL: list[TableEstimator[Any]] = [
    EnergyDensity(n_components=2, hidden_layer_sizes=(16,), max_iter=5, random_state=0),
    EnergyOutlierDetector(component_counts=(2,), hidden_layer_sizes=(16,), max_iter=5, random_state=0),
]

Check = Callable[[Any], None]


@parametrize_with_checks(SMALL)  # type: ignore[untyped-decorator]
def test_scikit_learns_checks(estimator: Any, check: Check) -> None:
    check(estimator)


def people(n: int = 120, seed: int = 0) -> pd.DataFrame:
    """Numbers, text, an ordered type, booleans, dates and holes."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "age": rng.integers(18, 90, n),
            "gain": np.where(rng.random(n) < 0.7, 0.0, rng.lognormal(8, 1, n)),
            "town": rng.choice(["Ulm", "Bonn", None], n, p=[0.6, 0.3, 0.1]),
            "grade": pd.Categorical(rng.choice(["low", "high"], n), categories=["low", "high"], ordered=True),
            "member": rng.random(n) > 0.5,
            "born": pd.date_range("1980-01-01", periods=n, freq="30D"),
            "weight": np.where(rng.random(n) < 0.2, np.nan, rng.normal(70, 10, n)),
        }
    )


@pytest.fixture(params=SMALL, ids=lambda e: type(e).__name__)
def small(request: pytest.FixtureRequest) -> TableEstimator[Any]:
    made: TableEstimator[Any] = clone(request.param)
    return made


def test_a_saved_estimator_scores_the_same_in_another_process(small: TableEstimator[Any], tmp_path: Path) -> None:
    frame = people()
    fitted = small.fit(frame)
    fitted.save(tmp_path / "saved")
    assert {file.suffix for file in (tmp_path / "saved").iterdir()} == {".json", ".safetensors"}
    frame.to_pickle(tmp_path / "frame.pkl")
    name = type(small).__name__
    program = (
        f"import json, pandas, chainfree.estimators as e; m = e.{name}.load(r'{tmp_path / 'saved'}');"
        f"print(json.dumps(m.score_samples(pandas.read_pickle(r'{tmp_path / 'frame.pkl'}')).tolist()))"
    )
    told = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert json.loads(told) == fitted.score_samples(frame).tolist()
    again = type(small).load(tmp_path / "saved")
    assert again.get_params() == small.get_params()
    assert again.n_iter_ == fitted.n_iter_ and list(again.feature_names_in_) == list(frame.columns)


def test_equal_seeds_give_equal_scores(small: TableEstimator[Any]) -> None:
    frame = people()
    first = small.fit(frame).score_samples(frame)
    np.testing.assert_array_equal(first, clone(small).fit(frame).score_samples(frame))
    other = clone(small).set_params(random_state=1).fit(frame).score_samples(frame)
    assert not np.allclose(first, other)


def test_frames_of_other_libraries_are_taken(small: TableEstimator[Any]) -> None:
    frame = people()[["age", "gain", "town"]]
    of_pandas = small.fit(frame).score_samples(frame)
    theirs = pyarrow.Table.from_pandas(frame, preserve_index=False)
    np.testing.assert_allclose(clone(small).fit(theirs).score_samples(theirs), of_pandas, rtol=1e-5)


def test_a_schema_may_be_given(small: TableEstimator[Any], tmp_path: Path) -> None:
    frame = people()[["age", "town"]].assign(day=np.arange(120) % 7)
    schema = Schema.infer(frame, cyclic=["day"])
    fitted = small.set_params(schema=schema).fit(frame)
    assert fitted.model_.encoder.schema == schema
    fitted.save(tmp_path / "saved")
    assert type(small).load(tmp_path / "saved").schema == schema


def test_refusals_name_the_remedy(small: TableEstimator[Any], tmp_path: Path) -> None:
    frame = people()
    with pytest.raises(NotFittedError):
        small.score_samples(frame)
    with pytest.raises(NotFittedError):
        small.save(tmp_path)
    with pytest.raises(DataError, match="holds no estimator"):
        type(small).load(tmp_path)
    small.fit(frame)
    with pytest.raises(DataError, match=r"'age' has missing cells and had none \(1 rows\); fill them"):
        small.score_samples(frame.assign(age=[None, *frame["age"][1:]]))
    small.save(tmp_path / "saved")
    other = next(type(e) for e in SMALL if not isinstance(small, type(e)))
    with pytest.raises(DataError, match=f"holds a {type(small).__name__}, not a {other.__name__}"):
        other.load(tmp_path / "saved")


def test_cells_that_were_never_seen_are_scored_low(small: TableEstimator[Any]) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.choice(["x", "y"], 400), "b": rng.normal(size=400)})
    fitted = small.fit(frame)
    new = pd.DataFrame({"a": ["x", "z", None], "b": [0.0, 0.0, 0.0]})
    known, unseen, missing = fitted.score_samples(new)
    assert unseen < known - 2 and missing < known - 2
