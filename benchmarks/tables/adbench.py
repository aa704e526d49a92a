"""Outlier detectors on thirty tables of ADBench (Han et al., NeurIPS 2022, arXiv 2206.09426), fitted to normal rows alone.

Protocol: at most 8,000 rows a table, drawn by class in proportion, but never fewer than 50 anomalies where there are as many;
half of the normal rows are fitted to, the other half and all anomalies are the test; columns are standardised by the fitted
rows; five splits. Every method has one set of defaults for all tables. Ours were chosen on ten tables, every third by number,
and the others' are their libraries'; the Gaussian mixture's size is chosen by held-out likelihood in every table.

False alarms are of fresh normal rows at level 0.05, by conformal p-values.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from benchmarks.asked import answers, jobs_from_arguments
from benchmarks.common import RESULTS
from chainfree.cli.tables import text_table
from chainfree.datasets.locate import find
from chainfree.estimators import EnergyOutlierDetector
from chainfree.experiments import Recorder
from chainfree.threads import use_threads

SPLITS = (0, 1, 2, 3, 4)
LEVEL = 0.05
MOST_ROWS, FEWEST_ANOMALIES = 8000, 50
SIZES, FLOORS = (1, 2, 5, 10, 20), (1e-3, 1e-2)

Rows = NDArray[np.float64]
Method = Callable[[Rows, Rows, int], Rows]


def main() -> None:
    jobs = jobs_from_arguments(__doc__)
    use_threads(1)
    recorder = Recorder("adbench", "python -m benchmarks.tables.adbench", RESULTS, SPLITS)
    names = table_names()
    asked = [{"table": name, "split": split} for name in names for split in SPLITS]
    notes = answers("adbench", answer, asked, jobs=jobs)
    by_table = {name: [notes[{"table": name, "split": split}] for split in SPLITS] for name in names}
    figures = summary(by_table)
    print(table_of(figures))
    taken_up = {"taken_up": len(asked) - notes.added}
    print(recorder.write({**figures, **taken_up}, packages=("pyod",)))
    alarms = Recorder("conformal", "python -m benchmarks.tables.adbench", RESULTS, SPLITS)
    print(alarms.write({**false_alarms(by_table), **taken_up}))


def table_names() -> list[str]:
    """In the order of their numbers in ADBench."""
    names = [path.stem for path in find("adbench").glob("*.npz")]
    return sorted(names, key=lambda name: int(name.partition("_")[0]))


def tuned_on(names: list[str]) -> list[str]:
    """The ten tables that our defaults were chosen on."""
    return names[1::3]


def answer(question: Mapping[str, Any]) -> dict[str, Any]:
    """All methods on one split."""
    use_threads(1)
    split = question["split"]
    fitted, test, anomaly = load(question["table"], split)
    auroc = {name: float(roc_auc_score(anomaly, method(fitted, test, split))) for name, method in methods().items()}
    detector = EnergyOutlierDetector(level=LEVEL, random_state=split).fit(fitted)
    auroc["chainfree"] = float(roc_auc_score(anomaly, -detector.score_samples(test)))
    called = detector.predict(test[anomaly == 0]) == -1
    alarms = {"alarms": int(called.sum()), "rows": len(called), "calibration": len(detector.calibration_energies_)}
    return {"auroc": auroc, **alarms}


def load(name: str, split: int) -> tuple[Rows, Rows, NDArray[np.int64]]:
    """Fitted rows, test rows, and which of these are anomalies."""
    with np.load(find(f"adbench/{name}.npz")) as file:
        X, y = file["X"].astype(np.float64), file["y"].astype(np.int64)
    source = np.random.default_rng(split)
    normal, odd = (source.permutation(np.flatnonzero(y == kind)) for kind in (0, 1))
    if len(y) > MOST_ROWS:
        share = round(MOST_ROWS * len(odd) / len(y))
        odd = odd[: min(len(odd), max(share, FEWEST_ANOMALIES))]
        normal = normal[: MOST_ROWS - len(odd)]
    half = len(normal) // 2
    scaler = StandardScaler().fit(X[normal[:half]])
    test = np.concatenate([normal[half:], odd])
    return scaler.transform(X[normal[:half]]), scaler.transform(X[test]), y[test]


def methods() -> dict[str, Method]:
    """The others, by name: scores that are high for anomalies."""
    return {
        "k-NN": _neighbours,
        "Gaussian mixture": _mixture,
        "IsolationForest": lambda fitted, test, seed: (
            -IsolationForest(random_state=seed).fit(fitted).score_samples(test)
        ),
        "LOF": lambda fitted, test, seed: -LocalOutlierFactor(novelty=True).fit(fitted).score_samples(test),
        "OCSVM": lambda fitted, test, seed: -OneClassSVM().fit(fitted).score_samples(test),
        "ECOD": _ecod,
        "DeepSVDD": _deep_svdd,
    }


def _neighbours(fitted: Rows, test: Rows, seed: int) -> Rows:
    """Distance to the fifth, as ADBench has it."""
    distances, _ = NearestNeighbors(n_neighbors=min(5, len(fitted))).fit(fitted).kneighbors(test)
    return np.asarray(distances[:, -1])


def _mixture(fitted: Rows, test: Rows, seed: int) -> Rows:
    order = np.random.default_rng(seed).permutation(len(fitted))
    held, kept = fitted[order[: len(order) // 5]], fitted[order[len(order) // 5 :]]
    best, choice = -np.inf, (1, FLOORS[0])
    for size in SIZES:
        for floor in FLOORS:
            if size > 1 and len(kept) < 10 * size:
                continue
            found = GaussianMixture(size, reg_covar=floor, random_state=seed).fit(kept).score(held)
            if found > best:
                best, choice = found, (size, floor)
    chosen = GaussianMixture(choice[0], reg_covar=choice[1], random_state=seed).fit(fitted)
    return -np.asarray(chosen.score_samples(test))


def _ecod(fitted: Rows, test: Rows, seed: int) -> Rows:
    from pyod.models.ecod import ECOD

    return np.asarray(ECOD().fit(fitted).decision_function(test))


def _deep_svdd(fitted: Rows, test: Rows, seed: int) -> Rows:
    from pyod.models.deep_svdd import DeepSVDD

    model = DeepSVDD(n_features=fitted.shape[1], random_state=seed, verbose=0).fit(fitted)
    scores = np.asarray(model.decision_function(test))
    return scores if np.isfinite(scores).all() else np.zeros(len(test))  # a training that failed knows nothing


def summary(answers: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Means and mean ranks over all tables, and over those that our defaults were not chosen on."""
    names = list(answers)
    by_table = {
        name: {m: statistics.mean(found["auroc"][m] for found in answers[name]) for m in answers[name][0]["auroc"]}
        for name in names
    }
    kept = [name for name in names if name not in tuned_on(names)]
    return {
        "mean_auroc": {"all": _means(by_table, names), "held_from_tuning": _means(by_table, kept)},
        "mean_rank": {"all": _ranks(by_table, names), "held_from_tuning": _ranks(by_table, kept)},
        "auroc": by_table,
        "tuned_on": tuned_on(names),
    }


def _means(by_table: Mapping[str, Mapping[str, float]], names: list[str]) -> dict[str, float]:
    return {m: statistics.mean(by_table[name][m] for name in names) for m in by_table[names[0]]}


def _ranks(by_table: Mapping[str, Mapping[str, float]], names: list[str]) -> dict[str, float]:
    """1 is the best; ties share."""
    who = list(by_table[names[0]])
    ranks = np.array([stats.rankdata([-by_table[name][m] for m in who]) for name in names])
    return dict(zip(who, ranks.mean(0).tolist(), strict=True))


def false_alarms(answers: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Shares of fresh normal rows that are called outliers, and how far they are from the level in units of their error.

    At every split the share has the variance level (1 - level) (1/rows + 1/calibration), for fresh and calibration rows are
    both drawn. With so few calibration rows that the level cannot be reached, the level is the largest that can. ``z`` is of
    each split; the five of a table share rows and are not independent.
    """
    rate, z = {}, {}
    for name, found in answers.items():
        rate[name] = sum(f["alarms"] for f in found) / sum(f["rows"] for f in found)
        z[name] = []
        for f in found:
            reached = float(np.floor(LEVEL * (f["calibration"] + 1))) / (f["calibration"] + 1)
            variance = max(reached, 1e-3) * (1 - reached) * (1 / f["rows"] + 1 / f["calibration"])
            z[name].append((f["alarms"] / f["rows"] - reached) / float(np.sqrt(variance)))
    every = [value for values in z.values() for value in values]
    beyond = sum(abs(value) > 2 for value in every) / len(every)
    return {"false_alarm_rate": rate, "level": LEVEL, "z_by_split": z, "share_beyond_two_errors": beyond}


def table_of(figures: Mapping[str, Any]) -> str:
    who = sorted(figures["mean_auroc"]["all"], key=figures["mean_rank"]["all"].__getitem__)
    rows = [
        [m, *(f"{figures[key][part][m]:.{digits}f}" for part in ("all", "held_from_tuning") for key, digits in KEYS)]
        for m in who
    ]
    return text_table(["method", "AUROC, all", "rank, all", "AUROC, held", "rank, held"], rows)


KEYS = (("mean_auroc", 4), ("mean_rank", 2))


if __name__ == "__main__":
    main()
