"""Missing cells of four tables, a fifth of them, at random: ours against scikit-learn's iterative and k-NN imputers.

At most 10,000 rows a table, fitted and filled in place. The two see numbers, standardised, and an indicator for each
category, of which the largest is their answer. A column's indicators are missing together and sum to one, so that the
iterative imputer predicts each of them by what it has put into the others, and its answer stays the most frequent category.
Hence a baseline that has no such trouble: trees for every column by all the others, in turns.

How the imputer works (pooled mixtures, completions, shrinkage, draws held within the column, their number) was settled by
sketches on parts of the census, of housing and of credit: these three are no new tables to it.

Errors of numbers are root mean squares in units of their column's standard deviation, means over columns; accuracies of
categories are means over columns too.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

from benchmarks.asked import answers, jobs_from_arguments, spread
from benchmarks.common import RESULTS
from benchmarks.tables.sets import NAMES, table
from chainfree.cli.tables import text_table
from chainfree.estimators import EnergyImputer
from chainfree.experiments import Recorder
from chainfree.threads import use_threads

SEEDS = (0, 1, 2)
MOST_ROWS, SHARE, TURNS = 10_000, 0.2, 3
KEYS = ("categorical_accuracy", "numeric_error")

Fill = Callable[[pd.DataFrame, int], pd.DataFrame]


def main() -> None:
    jobs = jobs_from_arguments(__doc__)
    recorder = Recorder("imputation", "python -m benchmarks.tables.imputation", RESULTS, SEEDS)
    asked = [{"table": name, "method": method, "seed": s} for s in SEEDS for name in NAMES for method in METHODS]
    notes = answers("imputation", answer, asked, jobs=jobs)
    figures: dict[str, Any] = {key: {} for key in (*KEYS, "seconds")}
    for name in NAMES:
        for method in METHODS:
            by_seed = [notes[{"table": name, "method": method, "seed": seed}] for seed in SEEDS]
            for key, by_table in figures.items():
                values = [found[key] for found in by_seed if found[key] is not None]
                if values:
                    by_table.setdefault(name, {})[method] = spread(values)
    rows = [
        [name, m, *(f"{figures[key][name][m]['mean']:.4f}" if name in figures[key] else "none" for key in figures)]
        for name in NAMES
        for m in METHODS
    ]
    print(text_table(["table", "method", *figures], rows))
    print(recorder.write({**figures, "taken_up": len(asked) - notes.added}))


def answer(question: Mapping[str, Any]) -> dict[str, float | None]:
    """One method on one table with its holes."""
    use_threads(1)
    source = np.random.default_rng(question["seed"])
    truth, _ = table(question["table"])
    truth = truth.iloc[source.permutation(len(truth))[:MOST_ROWS]].reset_index(drop=True)
    holes = source.random(truth.shape) < SHARE
    holed = truth.mask(pd.DataFrame(holes, columns=truth.columns))
    started = time.perf_counter()
    filled = METHODS[question["method"]](holed, question["seed"])
    seconds = time.perf_counter() - started
    errors, accuracies = [], []
    for place, name in enumerate(truth.columns):
        gone = holes[:, place] & truth[name].notna().to_numpy()
        if truth[name].dtype.kind in "fi":
            away = filled[name][gone].to_numpy(dtype=float) - truth[name][gone].to_numpy(dtype=float)
            errors.append(float(np.sqrt((away**2).mean()) / truth[name].std()))
        else:
            accuracies.append(float((filled[name][gone] == truth[name][gone]).mean()))
    return {
        "numeric_error": statistics.mean(errors) if errors else None,
        "categorical_accuracy": statistics.mean(accuracies) if accuracies else None,
        "seconds": seconds,
    }


def _ours(holed: pd.DataFrame, seed: int) -> pd.DataFrame:
    filled: pd.DataFrame = EnergyImputer(random_state=seed).fit_transform(holed)
    return filled


def _in_numbers(imputer: Any) -> Fill:
    """Numbers standardised, an indicator for each category, of which the largest is the answer."""

    def fill(holed: pd.DataFrame, seed: int) -> pd.DataFrame:
        blocks, known = [], {}
        for name in holed.columns:
            if holed[name].dtype.kind in "fi":
                centre, scale = holed[name].mean(), holed[name].std() or 1.0
                known[name] = (centre, scale)
                blocks.append(((holed[name] - centre) / scale).to_numpy()[:, None])
            else:
                category = holed[name].astype("category")
                known[name] = list(category.cat.categories)
                codes = category.cat.codes.to_numpy()
                indicators = np.eye(len(known[name]))[codes]
                indicators[codes < 0] = np.nan
                blocks.append(indicators)
        found = imputer(seed).fit_transform(np.hstack(blocks))
        filled, start = {}, 0
        for name, block in zip(holed.columns, blocks, strict=True):
            values = found[:, start : start + block.shape[1]]
            start += block.shape[1]
            about = known[name]
            if isinstance(about, list):
                filled[name] = pd.Series([about[place] for place in values.argmax(1)])
            else:
                filled[name] = pd.Series(values[:, 0] * about[1] + about[0])
        return pd.DataFrame(filled)

    return fill


def _most_frequent(holed: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Means and most frequent categories: what knowing nothing of the row gives."""
    filled = {}
    for name in holed.columns:
        strategy = "mean" if holed[name].dtype.kind in "fi" else "most_frequent"
        cells = (
            holed[[name]].astype(object).where(holed[[name]].notna(), np.nan) if strategy != "mean" else holed[[name]]
        )
        filled[name] = pd.Series(SimpleImputer(strategy=strategy).fit_transform(cells)[:, 0])
    return pd.DataFrame(filled)


def _chained_trees(holed: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Each column by extremely randomised trees on the others, in turns (Stekhoven and Buehlmann, 2012, with other trees)."""
    filled = _most_frequent(holed, seed)
    for _ in range(TURNS):
        for name in holed.columns:
            missing = holed[name].isna().to_numpy()
            if not missing.any():
                continue
            others = filled.drop(columns=name)
            text = [other for other in others if others[other].dtype.kind not in "fi"]
            X = others.assign(**{other: others[other].astype("category").cat.codes for other in text}).to_numpy(float)
            trees = ExtraTreesRegressor if holed[name].dtype.kind in "fi" else ExtraTreesClassifier
            model = trees(100, min_samples_leaf=5, max_features=0.5, random_state=seed)
            values = filled[name].to_numpy(dtype=float if holed[name].dtype.kind in "fi" else object, copy=True)
            values[missing] = model.fit(X[~missing], holed[name][~missing]).predict(X[missing])
            filled = filled.assign(**{name: values})
    return filled


METHODS: dict[str, Fill] = {
    "chainfree": _ours,
    "iterative": _in_numbers(lambda seed: IterativeImputer(random_state=seed)),
    "k-NN": _in_numbers(lambda seed: KNNImputer()),
    "trees in turns": _chained_trees,
    "mean and most frequent": _most_frequent,
}


if __name__ == "__main__":
    main()
