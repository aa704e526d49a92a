"""Two hundred malformed tables: a clear error, or a right answer."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from chainfree.estimators import (
    EnergyDensity,
    EnergyImputer,
    EnergyOutlierDetector,
    EnergySynthesizer,
    JointEnergyClassifier,
)

Spoil = Callable[[pd.DataFrame, np.random.Generator], Any]
N = 60


def _frame(source: np.random.Generator) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "a": source.normal(size=N),
            "b": source.choice(["x", "y", "z"], N),
            "c": source.integers(0, 100, N),
        }
    )


def _mixed(frame: pd.DataFrame, source: np.random.Generator) -> pd.DataFrame:
    cells: list[Any] = frame["b"].tolist()
    for place in source.integers(0, N, 5):
        cells[place] = 3.5
    return frame.assign(b=pd.Series(cells, dtype=object))


def _one_cell(column: str, value: Any) -> Spoil:
    def spoil(frame: pd.DataFrame, source: np.random.Generator) -> pd.DataFrame:
        cells = frame[column].astype(object).tolist()
        cells[int(source.integers(N))] = value
        return frame.assign(**{column: pd.Series(cells, dtype=object)})

    return spoil


def _inf(frame: pd.DataFrame, source: np.random.Generator) -> pd.DataFrame:
    values = frame["a"].to_numpy().copy()
    values[source.integers(0, N, 3)] = source.choice([np.inf, -np.inf])
    return frame.assign(a=values)


# by name: how a table is spoilt
SPOILT: dict[str, Spoil] = {
    "no rows": lambda f, s: f.iloc[:0],
    "no columns": lambda f, s: f[[]],
    "one row": lambda f, s: f.iloc[:1],
    "two rows": lambda f, s: f.iloc[:2],
    "one column of numbers": lambda f, s: f[["a"]],
    "one column of text": lambda f, s: f[["b"]],
    "a column all missing": lambda f, s: f.assign(d=np.nan),
    "a column of None": lambda f, s: f.assign(d=None),
    "everything missing": lambda f, s: f.mask(f.notna()),
    "nearly all missing": lambda f, s: f.mask(pd.DataFrame(s.random(f.shape) < 0.95, columns=f.columns)),
    "one value each": lambda f, s: f.assign(a=1.0, b="x", c=3),
    "mixed types": _mixed,
    "a list in a cell": _one_cell("b", [1, 2]),
    "a dict in a cell": _one_cell("b", {"x": 1}),
    "bytes in a cell": _one_cell("b", b"x"),
    "text among numbers": _one_cell("a", "n/a"),
    "an empty string": _one_cell("b", ""),
    "a line break": _one_cell("b", "x\ny"),
    "infinite": _inf,
    "repeated names": lambda f, s: f.set_axis(["a", "a", "c"], axis=1),
    "a name that is no text": lambda f, s: f.set_axis(["a", 1, "c"], axis=1),
    "an empty name": lambda f, s: f.rename(columns={"a": ""}),
    "every row another text": lambda f, s: f.assign(b=[f"name {i}" for i in range(N)]),
    "huge integers": lambda f, s: f.assign(c=np.full(N, 2**62) + np.arange(N)),
    "integers beyond 64 bits": _one_cell("c", 10**30),
    "tiny numbers": lambda f, s: f.assign(a=f["a"] * 1e-300),
    "huge numbers": lambda f, s: f.assign(a=f["a"] * 1e300),
    "one number far out": lambda f, s: f.assign(a=f["a"].where(f.index != 7, 1e30)),
    "two numbers only": lambda f, s: f.assign(a=np.where(np.arange(N) < 59, 0.0, 1.0)),
    "complex": lambda f, s: f.assign(a=f["a"] + 1j),
    "dates": lambda f, s: f.assign(d=pd.date_range("2020-01-01", periods=N)),
    "dates with zones and holes": lambda f, s: f.assign(
        d=pd.Series(pd.date_range("2020-01-01", periods=N, tz="Europe/Berlin")).where(np.arange(N) % 4 > 0)
    ),
    "durations": lambda f, s: f.assign(d=pd.to_timedelta(np.arange(N) ** 2, unit="min")),
    "periods": lambda f, s: f.assign(d=pd.period_range("2020-01", periods=N, freq="M")),
    "nullable integers": lambda f, s: f.assign(c=f["c"].astype("Int64").where(np.arange(N) % 3 > 0)),
    "nullable truth values": lambda f, s: f.assign(d=pd.array([True, False, None] * (N // 3), dtype="boolean")),
    "categories that no row has": lambda f, s: f.assign(b=pd.Categorical(f["b"], categories=["x", "y", "z", "never"])),
    "sparse": lambda f, s: f.assign(a=pd.arrays.SparseArray(f["a"].round(0))),
    "half floats": lambda f, s: f.assign(a=f["a"].astype(np.float16)),
    "text with nothing": lambda f, s: f.assign(b=f["b"].where(np.arange(N) % 2 > 0)),
}

ESTIMATORS: dict[str, Callable[[], Any]] = {
    "density": lambda: EnergyDensity(n_components=2, hidden_layer_sizes=(8,), max_iter=3, random_state=0),
    "outlier": lambda: EnergyOutlierDetector(
        component_counts=(2,), n_estimators=1, hidden_layer_sizes=(8,), max_iter=3, random_state=0
    ),
    "classifier": lambda: JointEnergyClassifier(hidden_layer_sizes=(8,), max_iter=3, random_state=0),
    "imputer": lambda: EnergyImputer(n_components=2, n_rounds=1, hidden_layer_sizes=(8,), max_iter=3, random_state=0),
    "synthesizer": lambda: EnergySynthesizer(n_components=2, hidden_layer_sizes=(8,), max_iter=3, random_state=0),
}
assert len(SPOILT) * len(ESTIMATORS) == 200


def _ask(kind: str, fitted: Any, table: Any) -> None:
    """The answer has a row for every row, and is finite."""
    if kind == "classifier":
        answer = fitted.predict_proba(table)
        np.testing.assert_allclose(answer.sum(1), 1.0)
    elif kind == "imputer":
        answer = fitted.transform(table)
        assert not answer.isna().to_numpy().any()
    elif kind == "synthesizer":
        answer = fitted.sample(len(table), random_state=0)
        assert list(answer.columns) == list(table.columns)
    else:
        answer = fitted.score_samples(table)
        assert np.isfinite(answer).all()
    assert len(answer) == len(table)


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_table_to_fit(name: str, kind: str) -> None:
    source = np.random.default_rng(0)
    table = SPOILT[name](_frame(source), source)
    labels = np.where(np.arange(len(table)) % 2 == 0, "yes", "no")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            fitted = ESTIMATORS[kind]().fit(table, labels)
        except (ValueError, TypeError) as error:
            message = str(error)
            assert message and len(message) < 400, message
            # of our own errors, one line that names what is wrong
            assert "\n" not in message or "Feature names" in message, message
            assert "Traceback" not in message and "tensor" not in message.lower(), message
        else:
            _ask(kind, fitted, table)


AT_PREDICT: dict[str, Spoil] = {
    "a column less": lambda f, s: f[["a", "b"]],
    "a column more": lambda f, s: f.assign(d=1.0),
    "another order": lambda f, s: f[["c", "b", "a"]],
    "text for numbers": lambda f, s: f.assign(a="x"),
    "numbers for text": lambda f, s: f.assign(b=1.5),
    "infinite": _inf,
    "new categories": lambda f, s: f.assign(b="new"),
    "far out": lambda f, s: f.assign(a=1e12),
}


@pytest.mark.parametrize("kind", [kind for kind in ESTIMATORS if kind != "synthesizer"])
@pytest.mark.parametrize("name", AT_PREDICT)
def test_a_spoilt_table_to_ask_about(name: str, kind: str) -> None:
    source = np.random.default_rng(0)
    table = _frame(source)
    fitted = ESTIMATORS[kind]().fit(table, np.where(np.arange(N) % 2 == 0, "yes", "no"))
    spoilt = AT_PREDICT[name](table, source)
    try:
        _ask(kind, fitted, spoilt)
    except ValueError as error:
        assert "column" in str(error) or "Feature names" in str(error) or "features" in str(error), error
    else:
        assert name in ("new categories", "far out")


def test_ten_thousand_categories() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"shop": rng.integers(0, 10_000, 30_000).astype(str), "pay": rng.normal(size=30_000)})
    detector = EnergyOutlierDetector(
        component_counts=(2,), n_estimators=1, hidden_layer_sizes=(8,), max_iter=3, random_state=0
    )
    assert np.isfinite(detector.fit(frame).score_samples(frame.iloc[:100])).all()
