"""Synthetic rows of four tables, against CTGAN, TVAE and SMOTE.

10,000 rows, drawn by the seed, are fitted to, and as many are made, the target among the columns; the rest is the test. A
median splits the prices of California's houses in two classes. Everything has its defaults.

- ``tstr_auroc``: of gradient boosting that is trained on the rows made and tested on real ones; ``real`` is trained on the
  rows that the others are fitted to.
- ``shape``, ``pair_trend``, ``detection``: SDMetrics' (1 is best), against the fitted rows; ``real`` is as many test rows.
- ``detection_boosting``: AUROC of gradient boosting that tells test rows from rows made, in five folds (0.5 is best).
- ``copied``: share of rows made that are fitted rows, cell by cell; for ``real``, that of the test rows. Numbers of seven
  digits.
- ``close``: share of rows made that are nearer to a fitted row than all but a twentieth of the test rows are: 0.05 where rows
  made are as far as fresh ones. Numbers in their standard deviations, one for each category that differs.

CTGAN, TVAE and SMOTE run in an environment of their own, which ``make peers`` builds.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import NearestNeighbors

from benchmarks.asked import answers, jobs_from_arguments, spread
from benchmarks.common import RESULTS
from benchmarks.tables.classifiers import boosting
from benchmarks.tables.sets import NAMES, table
from chainfree.cli.tables import text_table
from chainfree.estimators import EnergySynthesizer
from chainfree.experiments import Recorder
from chainfree.threads import use_threads

SEEDS = (0, 1)  # a seed is two hours of CTGAN
FITTED_ROWS = 10_000
TARGET = "target"
METHODS = ("real", "chainfree", "ctgan", "tvae", "smote")
KEYS = ("tstr_auroc", "detection", "detection_boosting", "shape", "pair_trend", "copied", "close", "seconds")
PEERS = Path(".venv-peers/bin/python")
PEERS_CODE = (
    *(Path(__file__).parent / name for name in ("synthesis.py", "peers.py", "sets.py", "classifiers.py")),
    Path("constraints-peers.txt"),
    Path("constraints.txt"),
)


def main() -> None:
    jobs = jobs_from_arguments(__doc__)
    if not PEERS.exists():
        raise SystemExit(f"{PEERS} is missing: make peers builds it")
    recorder = Recorder("synthesis", "python -m benchmarks.tables.synthesis", RESULTS, SEEDS)
    asked = [{"table": name, "method": method, "seed": s} for s in SEEDS for name in NAMES for method in METHODS]
    ours, others = ([q for q in asked if (q["method"] == "chainfree") is mine] for mine in (True, False))
    # hours, and nothing that chainfree computes is in them: of it they use where data lie and how threads are set
    peers = answers("synthesis_peers", answer, others, jobs=jobs, made_by=PEERS_CODE)
    notes = answers("synthesis", answer, ours, jobs=jobs)
    figures: dict[str, Any] = {key: {name: {} for name in NAMES} for key in KEYS}
    for name in NAMES:
        for method in METHODS:
            found_by = notes if method == "chainfree" else peers
            by_seed = [found_by[{"table": name, "method": method, "seed": seed}] for seed in SEEDS]
            for key in KEYS:
                figures[key][name][method] = spread([found[key] for found in by_seed])
    rows = [
        [name, method, *(f"{figures[key][name][method]['mean']:.4f}" for key in KEYS)]
        for name in NAMES
        for method in METHODS
    ]
    print(text_table(["table", "method", *KEYS], rows))
    taken_up = {"chainfree": len(ours) - notes.added, "others": len(others) - peers.added}
    print(recorder.write({**figures, "versions_of_peers": versions_of_peers(), "taken_up": taken_up}))


def answer(question: Mapping[str, Any]) -> dict[str, float]:
    """One method's rows for one table, and what they are worth."""
    use_threads(1)
    seed, method = question["seed"], question["method"]
    frame = whole_table(question["table"])
    order = np.random.default_rng(seed).permutation(len(frame))
    fitted = frame.iloc[order[:FITTED_ROWS]].reset_index(drop=True)
    test = frame.iloc[order[FITTED_ROWS:]].reset_index(drop=True)
    about = {
        "seed": seed,
        "rows": len(fitted),
        "target": TARGET,
        "categories": [name for name in frame if frame[name].dtype.kind == "O"],
        "whole": [name for name in frame if frame[name].dtype.kind == "i"],
    }
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        made = fitted if method == "real" else rows_made(method, fitted, about, Path(folder))
        seconds = time.perf_counter() - started
        compared = known_rows(test, fitted, about).iloc[: len(fitted)] if method == "real" else made
        found = by_sdmetrics(fitted, compared, about, Path(folder))
    far, far_of_test = distances(fitted, made, about), distances(fitted, test, about)
    if method == "real":
        far = far_of_test
    return {
        **found,
        "tstr_auroc": tstr_auroc(made, test, seed),
        "detection_boosting": told_apart(test.iloc[: len(made)], made, seed),
        "copied": copied(test if method == "real" else made, fitted),
        "close": float((far < np.quantile(far_of_test, 0.05)).mean()),
        "seconds": seconds,
    }


def whole_table(name: str) -> pd.DataFrame:
    """Columns and target, whole numbers as integers and categories as text."""
    frame, target = table(name)
    above = target > target.median() if target.nunique() > 2 else target > 0
    frame = frame.assign(**{TARGET: np.where(above, "1", "0").astype(object)})
    numbers = [column for column in frame if frame[column].dtype.kind == "f"]
    whole = [column for column in numbers if (frame[column] % 1 == 0).all()]
    frame = frame.astype(dict.fromkeys(whole, np.int64))
    others = [column for column in numbers if column not in whole]
    # of seven digits, which text keeps: other rows come back from it, and none may be told by its last digit
    return frame.astype(dict.fromkeys(others, np.float64)).round(dict.fromkeys(others, 6)).fillna("?")


def rows_made(method: str, fitted: pd.DataFrame, about: dict[str, Any], folder: Path) -> pd.DataFrame:
    """As many as are fitted, in the same types and digits."""
    if method == "chainfree":
        made = (
            EnergySynthesizer(random_state=about["seed"]).fit(fitted).sample(about["rows"], random_state=about["seed"])
        )
    else:
        _run(method, fitted, folder / "made.csv", about, folder)
        text = dict.fromkeys(about["categories"], str)
        made = pd.read_csv(folder / "made.csv", dtype=text, keep_default_na=False, float_precision="round_trip")
    made = made[list(fitted)].astype(fitted.dtypes.to_dict())
    return made.round(dict.fromkeys([name for name in fitted if fitted[name].dtype.kind == "f"], 6))


def known_rows(rows: pd.DataFrame, fitted: pd.DataFrame, about: dict[str, Any]) -> pd.DataFrame:
    """Without those whose categories are new: SDMetrics refuses them."""
    return rows[np.logical_and.reduce([rows[name].isin(fitted[name]) for name in about["categories"]])]


def by_sdmetrics(fitted: pd.DataFrame, made: pd.DataFrame, about: dict[str, Any], folder: Path) -> dict[str, float]:
    made.to_csv(folder / "scored.csv", index=False)
    _run("scores", fitted, folder / "scored.csv", about, folder, folder / "scores.json")
    found: dict[str, float] = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    return found


def _run(task: str, real: pd.DataFrame, made: Path, about: dict[str, Any], folder: Path, *rest: Path) -> None:
    (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")
    real.to_csv(folder / "real.csv", index=False)
    command = [str(PEERS), "benchmarks/tables/peers.py", task, folder / "about.json", folder / "real.csv", made, *rest]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{task} ended with {done.returncode}:\n{done.stderr[-2000:]}")


def versions_of_peers() -> dict[str, str]:
    code = (
        "import json; from importlib.metadata import version; "
        "print(json.dumps({n: version(n) for n in ('ctgan', 'sdmetrics', 'imbalanced-learn', 'pandas', 'torch')}))"
    )
    done = subprocess.run([PEERS, "-c", code], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def tstr_auroc(made: pd.DataFrame, test: pd.DataFrame, seed: int) -> float:
    """Trained on synthetic rows, tested on real ones."""
    labels = made[TARGET].astype(str)
    if labels.nunique() < 2:
        return 0.5
    model = boosting(made.drop(columns=TARGET), seed).fit(made.drop(columns=TARGET), labels == "1")
    return float(roc_auc_score(test[TARGET] == "1", model.predict_proba(test.drop(columns=TARGET))[:, 1]))


def told_apart(test: pd.DataFrame, made: pd.DataFrame, seed: int) -> float:
    both = pd.concat([test, made], ignore_index=True)
    real = np.arange(len(both)) < len(test)
    order = np.random.default_rng(seed).permutation(len(both))
    both, real = both.iloc[order], real[order]
    return float(roc_auc_score(real, cross_val_predict(boosting(both, seed), both, real, method="predict_proba")[:, 1]))


def copied(rows: pd.DataFrame, fitted: pd.DataFrame) -> float:
    """Share of rows that are fitted ones."""
    known = set(fitted.itertuples(index=False, name=None))
    return float(np.mean([row in known for row in rows[list(fitted)].itertuples(index=False, name=None)]))


def distances(fitted: pd.DataFrame, rows: pd.DataFrame, about: dict[str, Any]) -> NDArray[np.float64]:
    """From each row to the nearest fitted one."""

    def encoded(frame: pd.DataFrame) -> NDArray[np.float64]:
        blocks = []
        for name in fitted:
            if name in about["categories"]:
                values = np.unique(fitted[name].to_numpy(dtype=object))
                # two that differ are one apart
                blocks.append((frame[name].to_numpy(dtype=object)[:, None] == values) / np.sqrt(2))
            else:
                blocks.append(frame[[name]].to_numpy(dtype=float) / (fitted[name].std() or 1.0))
        return np.hstack(blocks)

    found, _ = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(encoded(fitted)).kneighbors(encoded(rows))
    return np.asarray(found[:, 0])


if __name__ == "__main__":
    main()
