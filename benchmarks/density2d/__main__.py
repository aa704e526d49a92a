"""Every loss on eight planar densities with the settings that the search chose: ``python -m benchmarks.density2d``.

With three seeds a lead is one if it is larger than 4.3 standard errors of its mean over seeds: Student's t at two degrees of
freedom and 5%. All that the first does not lead are tied with it.
"""

from __future__ import annotations

import statistics
from pathlib import Path

from benchmarks.common import RESULTS
from benchmarks.density2d.jobs import Job, outcomes
from benchmarks.density2d.methods import METHODS
from benchmarks.density2d.protocol import BATCH, BUDGET, DENSITIES, TEST, Outcome
from benchmarks.density2d.search import DENSITIES as SEARCHED
from benchmarks.density2d.search import read_settings
from chainfree import plotting
from chainfree.cli.tables import text_table
from chainfree.experiments import Recorder

SEEDS = (0, 1, 2)
ERRORS = 4.303  # of a mean over three seeds
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
    first = {density: min(METHODS, key=lambda name: _or_infinite(gaps[name][density])) for density in DENSITIES}
    tied = {density: _tied(found, first[density], density) for density in DENSITIES}
    figures: dict[str, object] = {
        "budget_s": BUDGET,
        "batch": BATCH,
        "first": first,
        "first_ours": [d for d in DENSITIES if METHODS[first[d]].ours],
        "tied": tied,
        "tied_ours": [d for d in DENSITIES if any(METHODS[name].ours for name in tied[d])],
        "unseen": UNSEEN,
        "searched": SEARCHED,
        "gap": gaps,
        "gap_by_seed": _by(found, lambda o: o.gap),
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
    slow = [name for name in METHODS if _or_infinite(gaps[name][EIGHT]) > ENOUGH]
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
    order = sorted(METHODS, key=lambda name: statistics.median(_or_infinite(g) for g in gaps[name].values()))
    table = [
        [METHODS[name].title, *(_written(gaps[name][d]) + "=" * (name in tied[d]) for d in DENSITIES)] for name in order
    ]
    print(text_table(["mean NLL gap (nats); = first or tied", *DENSITIES], table))
    print(recorder.write(figures, packages=["zuko"]))
    _draw(order, gaps, tied, images)
    NOTES.unlink()


def _tied(found: dict[tuple[str, str], list[Outcome]], first: str, density: str) -> list[str]:
    """The first, and all that it does not lead beyond chance, over equal seeds."""
    tied = [first]
    best = [outcome.gap for outcome in found[first, density]]
    for name in METHODS:
        gaps = [outcome.gap for outcome in found[name, density]]
        if name == first or None in gaps or None in best:
            continue
        leads = [b - a for b, a in zip(gaps, best, strict=True)]  # type: ignore[operator]
        if statistics.fmean(leads) < ERRORS * statistics.stdev(leads) / len(leads) ** 0.5:
            tied.append(name)
    return tied


def _draw(
    order: list[str],
    gaps: dict[str, dict[str, float | None]],
    tied: dict[str, list[str]],
    images: dict[tuple[str, str], list[list[float]]],
) -> None:
    values = [[_or_infinite(gaps[name][d]) for d in DENSITIES] for name in order]
    picture = plotting.heat_map(
        [[min(max(v, 1e-4), 10.0) if v < float("inf") else float("nan") for v in row] for row in values],
        rows=[METHODS[name].title for name in order],
        columns=DENSITIES,
        label="nats above the truth, at most 10",
        title=f"Held-out NLL gap after {BUDGET:g} seconds, mean of {len(SEEDS)} seeds; framed: first or tied",
        marked=[(order.index(name), column) for column, d in enumerate(DENSITIES) for name in tied[d]],
    )
    plotting.save(picture, RESULTS / "density2d.png")
    for name in order:
        sheet = plotting.density_sheet({d: images[name, d] for d in DENSITIES}, title=METHODS[name].title)
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


def _or_infinite(value: float | None) -> float:
    return float("inf") if value is None else value


def _written(value: float | None) -> str:
    return "failed" if value is None else f"{value:.4f}" if value < 10 else f"{value:.3g}"


if __name__ == "__main__":
    main()
