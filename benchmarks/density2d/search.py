"""The settings of every method: six candidates each, on two densities and with a seed of their own, then fixed.

``python -m benchmarks.density2d.search`` writes ``benchmarks/density2d/settings.json``, which ``python -m
benchmarks.density2d`` reads; names of methods as arguments search for these alone and leave the others as they are. The
winner has the smallest mean of log gaps: a candidate that fails on one density does not win by the other. Candidates are
judged by held-out rows that the benchmark itself does not use.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

from benchmarks.density2d.jobs import Job, outcomes
from benchmarks.density2d.methods import METHODS
from benchmarks.density2d.protocol import BUDGET, VALIDATION
from chainfree.engine.atomic import write_text
from chainfree.experiments.record import commit

__all__ = ["DENSITIES", "SETTINGS", "read_settings"]

SETTINGS = Path(__file__).with_name("settings.json")
NOTES = Path("results/density2d-search.partial.jsonl")
DENSITIES = ("8gaussians", "checkerboard")
SEED = 100
WORST = 10.0  # nats: what diverged, or is further off than this, counts as this


def read_settings() -> dict[str, dict[str, Any]]:
    """What the search chose, by method.

    Raises:
        ValueError: it was another search: of other methods, candidates or seconds.
    """
    record = json.loads(SETTINGS.read_text())
    searched = {name: [row["settings"] for row in found["candidates"]] for name, found in record["methods"].items()}
    for name, method in METHODS.items():
        offered = [json.loads(json.dumps(settings)) for settings in method.candidates]
        if sorted(map(str, searched.get(name, []))) != sorted(map(str, offered)) or record["budget_s"] != BUDGET:
            raise ValueError(f"{SETTINGS.name} is of another search; run python -m benchmarks.density2d.search first")
    return {name: found["settings"] for name, found in record["methods"].items()}


def main() -> None:
    named = sys.argv[1:] or list(METHODS)
    jobs = [
        Job(name, settings, density, SEED, VALIDATION)
        for name in named
        for settings in METHODS[name].candidates
        for density in DENSITIES
    ]
    gaps: dict[str, dict[str, dict[str, float | None]]] = {name: {} for name in named}
    for job, outcome in outcomes(jobs, NOTES):
        gaps[job.method].setdefault(json.dumps(job.settings), {})[job.density] = outcome.gap
    found = json.loads(SETTINGS.read_text())["methods"] if SETTINGS.exists() else {}
    for name, by_settings in gaps.items():
        scores = {key: sum(math.log(_bounded(gap)) for gap in row.values()) for key, row in by_settings.items()}
        best = min(scores, key=lambda key: scores[key])
        candidates = [{"settings": json.loads(key), "gaps": by_settings[key]} for key in sorted(scores, key=scores.get)]  # type: ignore[arg-type]
        found[name] = {"settings": json.loads(best), "commit": commit(), "candidates": candidates}
        print(f"{name}: {best} of gaps {by_settings[best]}")
    record = {
        "command": "python -m benchmarks.density2d.search",
        "budget_s": BUDGET,
        "seed": SEED,
        "densities": DENSITIES,
        "methods": {name: found[name] for name in METHODS if name in found},
    }
    write_text(SETTINGS, json.dumps(record, indent=1) + "\n")
    NOTES.unlink()


def _bounded(gap: float | None) -> float:
    return WORST if gap is None or not gap < WORST else max(gap, 1e-4)


if __name__ == "__main__":
    main()
