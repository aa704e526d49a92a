"""The settings of every method: six candidates each, on two densities and with a seed of their own, then fixed.

``python -m benchmarks.density2d.search`` writes ``benchmarks/density2d/settings.json``, which ``python -m
benchmarks.density2d`` reads. The winner has the smallest mean of log gaps: a candidate that fails on one density does not win
by the other. Names of methods search for these alone and leave the others as they were.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.density2d.jobs import Job, outcomes
from benchmarks.density2d.methods import METHODS
from benchmarks.density2d.protocol import BUDGET

__all__ = ["SETTINGS", "read_settings"]

SETTINGS = Path(__file__).with_name("settings.json")
DENSITIES = ("8gaussians", "checkerboard")
SEED = 100
WORST = 10.0  # nats: what diverged, or is further off than this, counts as this


def read_settings() -> dict[str, dict[str, Any]]:
    """What the search chose, by method."""
    return {name: found["settings"] for name, found in json.loads(SETTINGS.read_text())["methods"].items()}


def main(names: Sequence[str]) -> None:
    names = names or list(METHODS)
    jobs = [
        Job(name, settings, density, SEED)
        for name in names
        for settings in METHODS[name].candidates
        for density in DENSITIES
    ]
    gaps: dict[str, dict[str, dict[str, float | None]]] = {name: {} for name in names}
    for job, outcome in outcomes(jobs):
        gaps[job.method].setdefault(json.dumps(job.settings), {})[job.density] = outcome.gap
    kept = json.loads(SETTINGS.read_text())["methods"] if SETTINGS.exists() else {}
    found = {name: kept[name] for name in METHODS if name in kept}
    for name, by_settings in gaps.items():
        scores = {key: sum(math.log(_bounded(gap)) for gap in row.values()) for key, row in by_settings.items()}
        best = min(scores, key=lambda key: scores[key])
        candidates = [{"settings": json.loads(key), "gaps": by_settings[key]} for key in sorted(scores, key=scores.get)]  # type: ignore[arg-type]
        found[name] = {"settings": json.loads(best), "candidates": candidates}
        print(f"{name}: {best} of gaps {by_settings[best]}")
    record = {
        "command": "python -m benchmarks.density2d.search",
        "budget_s": BUDGET,
        "seed": SEED,
        "densities": DENSITIES,
        "methods": {name: found[name] for name in METHODS if name in found},
    }
    SETTINGS.write_text(json.dumps(record, indent=1) + "\n")


def _bounded(gap: float | None) -> float:
    return WORST if gap is None or not gap < WORST else max(gap, 1e-4)


if __name__ == "__main__":
    main(sys.argv[1:])
