"""Seconds to fit the census (32,561 rows, 14 columns) and rows scored a second, by every estimator's defaults.

On two threads. Scoring is of a frame as it was read, encoding included, the median of five turns over the fitted rows. The
headline figures are those of the slowest estimator.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
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
    use_threads(2)
    recorder = Recorder("table_speed", "python -m benchmarks.tables.table_speed", RESULTS, [0])
    frame, y = adult("train")
    fit_s: dict[str, float] = {}
    rate: dict[str, float] = {}
    makers: dict[str, tuple[Any, Callable[[Any], Any] | None]] = {
        "EnergyDensity": (EnergyDensity(random_state=0), lambda e: e.score_samples(frame)),
        "EnergyOutlierDetector": (EnergyOutlierDetector(random_state=0), lambda e: e.score_samples(frame)),
        "JointEnergyClassifier": (JointEnergyClassifier(random_state=0), lambda e: e.predict_proba(frame)),
        "EnergySynthesizer": (EnergySynthesizer(random_state=0), None),
        "EnergyImputer": (EnergyImputer(random_state=0), None),
    }
    for name, (estimator, score) in makers.items():
        started = time.perf_counter()
        estimator.fit(frame, y)
        fit_s[name] = time.perf_counter() - started
        if score is not None:
            seconds = []
            for _ in range(TURNS):
                started = time.perf_counter()
                score(estimator)
                seconds.append(time.perf_counter() - started)
            rate[name] = len(frame) / statistics.median(seconds)
        print(name, f"fit {fit_s[name]:.1f} s", f"{rate[name]:,.0f} rows a second" if name in rate else "", flush=True)
    figures = {
        "fit_adult_s": max(fit_s.values()),
        "score_rows_per_s": min(rate.values()),
        "fit_adult_s_by_estimator": fit_s,
        "score_rows_per_s_by_estimator": rate,
    }
    rows = [[name, f"{fit_s[name]:.1f}", f"{rate[name]:,.0f}" if name in rate else "none"] for name in fit_s]
    print(text_table(["estimator", "seconds to fit", "rows scored a second"], rows))
    print(recorder.write(figures))


if __name__ == "__main__":
    main()
