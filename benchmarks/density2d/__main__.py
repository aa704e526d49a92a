"""Every loss on eight planar densities with the settings that the search chose: ``python -m benchmarks.density2d``."""

from __future__ import annotations

import statistics
from pathlib import Path

from benchmarks.common import RESULTS
from benchmarks.density2d import report
from benchmarks.density2d.jobs import Job, outcomes
from benchmarks.density2d.methods import METHODS
from benchmarks.density2d.protocol import BATCH, BUDGET, DENSITIES, TEST, Outcome
from benchmarks.density2d.report import judgement, mean_gap
from benchmarks.density2d.search import DENSITIES as SEARCHED
from benchmarks.density2d.search import read_settings
from chainfree import plotting
from chainfree.experiments import Recorder

SEEDS = (0, 1, 2)
UNSEEN = ("unequal_mixture", "moons", "pinwheel")  # neither searched on nor looked at while the methods were made
EIGHT, ENOUGH, LONGER = "8gaussians", 0.1, 10  # who stays above that gap there gets so many times the seconds, once
NOTES = RESULTS / "density2d.partial.jsonl"
PICTURES = RESULTS / "density2d"


def main() -> None:
    settings = read_settings()
    recorder = Recorder("density2d", "python -m benchmarks.density2d", RESULTS, SEEDS)
    jobs = [
        Job(name, settings[name], density, seed, TEST) for name in METHODS for density in DENSITIES for seed in SEEDS
    ]
    found: dict[tuple[str, str], list[Outcome]] = {}
    images: dict[tuple[str, str], list[list[float]]] = {}
    for job, outcome in sorted(outcomes(jobs, NOTES), key=lambda pair: pair[0].seed):
        found.setdefault((job.method, job.density), []).append(outcome)
        if job.seed == SEEDS[0]:
            images[job.method, job.density] = outcome.image or []
    gaps = {name: {density: _mean([o.gap for o in found[name, density]]) for density in DENSITIES} for name in METHODS}
    by_seed = _by(found, lambda o: o.gap)
    figures: dict[str, object] = {
        "budget_s": BUDGET,
        "batch": BATCH,
        **judgement(by_seed),
        "unseen": UNSEEN,
        "searched": SEARCHED,
        "gap": gaps,
        "gap_by_seed": by_seed,
        "weight_error": {
            name: {d: _mean([o.weight_error for o in found[name, d]]) for d in DENSITIES if _weighs(found, d)}
            for name in METHODS
        },
        "sample_distance": {
            name: {d: _mean([o.distance for o in found[name, d]]) for d in DENSITIES} for name in METHODS
        },
        "steps": {
            name: round(statistics.median(o.steps for d in DENSITIES for o in found[name, d])) for name in METHODS
        },
        "seconds_median": {
            name: statistics.median(o.seconds for d in DENSITIES for o in found[name, d]) for name in METHODS
        },
        "seconds_worst": {name: max(o.seconds for d in DENSITIES for o in found[name, d]) for name in METHODS},
        "failed": {
            f"{name} on {density}": sorted({o.reason for o in runs if o.reason})
            for (name, density), runs in sorted(found.items())
            if any(o.reason for o in runs)
        },
        "settings": settings,
    }
    slow = [name for name in METHODS if mean_gap(by_seed[name][EIGHT]) > ENOUGH]
    figures["longer"] = {
        "density": EIGHT,
        "budget_s": LONGER * BUDGET,
        "gap": {
            job.method: outcome.gap
            for job, outcome in outcomes(
                [Job(name, settings[name], EIGHT, SEEDS[0], TEST, budget=LONGER * BUDGET) for name in slow], NOTES
            )
        },
    }
    print(recorder.write(figures, packages=["zuko"]))
    _draw(images)
    NOTES.unlink()
    report.main()


def _draw(images: dict[tuple[str, str], list[list[float]]]) -> None:
    for name, method in METHODS.items():
        sheet = plotting.density_sheet({d: images[name, d] for d in DENSITIES}, title=method.title)
        plotting.save(sheet, Path(PICTURES) / f"{name}.png")


def _by(found: dict[tuple[str, str], list[Outcome]], what: object) -> dict[str, dict[str, list[float | None]]]:
    assert callable(what)
    return {name: {d: [what(o) for o in found[name, d]] for d in DENSITIES} for name in METHODS}


def _weighs(found: dict[tuple[str, str], list[Outcome]], density: str) -> bool:
    """Whether modes' masses are known there."""
    return any(o.weight_error is not None for (_, d), runs in found.items() if d == density for o in runs)


def _mean(values: list[float | None]) -> float | None:
    """``None`` where one of them is."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known and len(known) == len(values) else None


if __name__ == "__main__":
    main()
