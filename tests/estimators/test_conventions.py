"""scikit-learn's own checks of every estimator, small so that they are quick; and what all of ours share."""

from __future__ import annotations

import io
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
from chainfree.estimators import (
    EnergyDensity,
    EnergyImputer,
    EnergyOutlierDetector,
    EnergySynthesizer,
    JointEnergyClassifier,
)
from chainfree.estimators.base import TableEstimator
from chainfree.tables import Schema

SMALL: list[TableEstimator[Any]] = [
    EnergyDensity(n_components=2, hidden_layer_sizes=(16,), max_iter=5, random_state=0),
    EnergyOutlierDetector(component_counts=(2,), hidden_layer_sizes=(16,), max_iter=5, random_state=0),
    JointEnergyClassifier(hidden_layer_sizes=(16,), max_iter=5, random_state=0),
    EnergyImputer(n_components=2, n_rounds=1, hidden_layer_sizes=(16,), max_iter=5, random_state=0),
    EnergySynthesizer(n_components=2, hidden_layer_sizes=(16,), max_iter=5, random_state=0),
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


LABELS = np.where(np.arange(120) % 3 == 0, "yes", "no")
# what each says of a frame, as an expression that another process can evaluate too
ANSWERS = {
    EnergyDensity: "m.score_samples(frame)",
    EnergyOutlierDetector: "m.decision_function(frame)",
    JointEnergyClassifier: "m.predict_proba(frame)",
    EnergyImputer: "m.transform(frame)",
    EnergySynthesizer: "m.sample(50, random_state=0)",
}


def answer(estimator: TableEstimator[Any], frame: pd.DataFrame) -> str:
    """As text."""
    found = eval(ANSWERS[type(estimator)], {"m": estimator, "frame": frame})
    return str(pd.DataFrame(found).to_csv())


@pytest.fixture(params=SMALL, ids=lambda e: type(e).__name__)
def small(request: pytest.FixtureRequest) -> TableEstimator[Any]:
    made: TableEstimator[Any] = clone(request.param)
    return made


def test_a_saved_estimator_says_the_same_in_another_process(small: TableEstimator[Any], tmp_path: Path) -> None:
    frame = people()
    fitted = small.fit(frame, LABELS)
    fitted.save(tmp_path / "saved")
    assert {file.suffix for file in (tmp_path / "saved").iterdir()} == {".json", ".safetensors"}
    frame.to_pickle(tmp_path / "frame.pkl")
    program = (
        f"import pandas, chainfree.estimators as e; m = e.{type(small).__name__}.load(r'{tmp_path / 'saved'}');"
        f"frame = pandas.read_pickle(r'{tmp_path / 'frame.pkl'}');"
        f"print(pandas.DataFrame({ANSWERS[type(small)]}).to_csv(), end='')"
    )
    told = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    there, here = (pd.read_csv(io.StringIO(text), index_col=0) for text in (told, answer(fitted, frame)))
    # to rounding: matrix products round by where their rows lie in memory
    pd.testing.assert_frame_equal(there, here, rtol=1e-5)
    again = type(small).load(tmp_path / "saved")
    assert again.get_params() == small.get_params()
    assert again.n_iter_ == fitted.n_iter_ and list(again.feature_names_in_) == list(frame.columns)


def test_equal_seeds_give_equal_answers(small: TableEstimator[Any]) -> None:
    frame = people()
    first = answer(small.fit(frame, LABELS), frame)
    assert first == answer(clone(small).fit(frame, LABELS), frame)
    assert first != answer(clone(small).set_params(random_state=1).fit(frame, LABELS), frame)


def test_frames_of_other_libraries_are_taken(small: TableEstimator[Any]) -> None:
    frame = people()[["age", "gain", "town"]]
    of_pandas = answer(small.fit(frame, LABELS), frame)
    theirs = pyarrow.Table.from_pandas(frame, preserve_index=False)
    other = clone(small).fit(theirs, LABELS)
    found = eval(ANSWERS[type(small)], {"m": other, "frame": theirs})
    if isinstance(small, EnergyImputer | EnergySynthesizer):
        assert isinstance(found, pyarrow.Table)
        found = found.to_pandas()
    assert pd.DataFrame(found).to_csv() == of_pandas


def test_a_schema_may_be_given(small: TableEstimator[Any], tmp_path: Path) -> None:
    frame = people()[["age", "town"]].assign(day=np.arange(120) % 7)
    schema = Schema.infer(frame, cyclic=["day"])
    fitted = small.set_params(schema=schema).fit(frame, LABELS)
    assert fitted.model_.encoder.schema.columns[2] == schema.columns[2]
    fitted.save(tmp_path / "saved")
    assert type(small).load(tmp_path / "saved").schema == schema


def test_refusals_name_the_remedy(small: TableEstimator[Any], tmp_path: Path) -> None:
    frame = people()
    with pytest.raises(NotFittedError):
        answer(small, frame)
    with pytest.raises(NotFittedError):
        small.save(tmp_path)
    with pytest.raises(DataError, match="holds no estimator"):
        type(small).load(tmp_path)
    small.fit(frame, LABELS)
    if not isinstance(small, EnergyImputer | EnergySynthesizer):
        with pytest.raises(DataError, match=r"'age' has missing cells and had none \(1 rows\); fill them"):
            answer(small, frame.assign(age=[None, *frame["age"][1:]]))
    small.save(tmp_path / "saved")
    other = next(type(e) for e in SMALL if not isinstance(small, type(e)))
    with pytest.raises(DataError, match=f"holds the estimator {type(small).__name__}, not {other.__name__}"):
        other.load(tmp_path / "saved")


@pytest.mark.parametrize("scorer", SMALL[:2], ids=lambda e: type(e).__name__)
def test_cells_that_were_never_seen_are_scored_low(scorer: TableEstimator[Any]) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.choice(["x", "y"], 400), "b": rng.normal(size=400)})
    fitted = clone(scorer).fit(frame)
    new = pd.DataFrame({"a": ["x", "z", None], "b": [0.0, 0.0, 0.0]})
    known, unseen, missing = fitted.score_samples(new)
    assert unseen < known - 2 and missing < known - 2


def test_settings_may_be_numpys(small: TableEstimator[Any], tmp_path: Path) -> None:
    """Searches over settings draw them so."""
    frame = people()
    small.set_params(max_iter=np.int64(4), batch_size=np.int64(32), random_state=np.int64(3))
    small.fit(frame, LABELS).save(tmp_path / "saved")
    again = type(small).load(tmp_path / "saved")
    assert again.get_params() == small.get_params() and answer(again, frame) == answer(small, frame)
