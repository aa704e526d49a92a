"""Seconds to fit the census (32,561 rows, 14 columns) and rows scored a second, by every estimator's defaults.

On two threads, each estimator in a process of its own. Scoring is of a frame as it was read, encoding included, the median of
five turns over the fitted rows. The headline figures are those of the slowest estimator.
"""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from benchmarks.common import RESULTS
from benchmarks.tables.sets import adult
from chainfree.cli.tables import text_table
from chainfree.estimators import (
    EnergyDensity,
    EnergyImputer,
    EnergyOutlierDetector,
    EnergySynthesizer,
    JointEnergyClassifier,
)
from chainfree.experiments import Recorder
from chainfree.threads import use_threads

TURNS = 5


def main() -> None:
    recorder = Recorder("table_speed", "python -m benchmarks.tables.table_speed", RESULTS, [0])
    fit_s: dict[str, float] = {}
    rate: dict[str, float] = {}
    # a process each: what one has left of the heap slows the next one down by a third
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as processes:
        for name, (fit_s[name], scored) in zip(ESTIMATORS, processes.map(timed, ESTIMATORS), strict=True):
            if scored is not None:
                rate[name] = scored
            print(
                name, f"fit {fit_s[name]:.1f} s", f"{rate[name]:,.0f} rows a second" if name in rate else "", flush=True
            )
    figures = {
        "fit_adult_s": max(fit_s.values()),
        "score_rows_per_s": min(rate.values()),
        "fit_adult_s_by_estimator": fit_s,
        "score_rows_per_s_by_estimator": rate,
    }
    rows = [[name, f"{fit_s[name]:.1f}", f"{rate[name]:,.0f}" if name in rate else "none"] for name in fit_s]
    print(text_table(["estimator", "seconds to fit", "rows scored a second"], rows))
    print(recorder.write(figures))


def timed(name: str) -> tuple[float, float | None]:
    """Seconds to fit, and rows scored a second."""
    use_threads(2)
    frame, y = adult("train")
    maker, score = ESTIMATORS[name]
    estimator = maker(random_state=0)
    started = time.perf_counter()
    estimator.fit(frame, y)
    fit_seconds = time.perf_counter() - started
    if score is None:
        return fit_seconds, None
    seconds = []
    for _ in range(TURNS):
        started = time.perf_counter()
        getattr(estimator, score)(frame)
        seconds.append(time.perf_counter() - started)
    return fit_seconds, len(frame) / statistics.median(seconds)


ESTIMATORS: dict[str, tuple[Any, str | None]] = {
    "EnergyDensity": (EnergyDensity, "score_samples"),
    "EnergyOutlierDetector": (EnergyOutlierDetector, "score_samples"),
    "JointEnergyClassifier": (JointEnergyClassifier, "predict_proba"),
    "EnergySynthesizer": (EnergySynthesizer, None),
    "EnergyImputer": (EnergyImputer, None),
}


if __name__ == "__main__":
    main()
