"""Who is first, and who is tied with it; the table and the heat map: ``python -m benchmarks.density2d.report``.

From the gaps that ``results/density2d.json`` holds, with the judgement written back to it. With three seeds the first leads
another where the mean logarithm of their gaps' ratio is larger than 4.3 of its standard errors, Student's t at two degrees of
freedom and 5%, or larger than tenfold, for some runs differ by so much between seeds that no error says anything. All that
the first does not lead are tied with it.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.common import RESULTS
from benchmarks.density2d.methods import METHODS
from benchmarks.density2d.protocol import BUDGET, DENSITIES
from chainfree import plotting
from chainfree.cli.tables import text_table
from chainfree.engine.atomic import write_text

__all__ = ["judgement", "mean_gap"]

ERRORS = 4.303  # of a mean over three seeds
FAR = math.log(10)
LEAST = 1e-4  # nats that a gap counts at the least: held-out rows know it no better

Gaps = Mapping[str, Mapping[str, Sequence[float | None]]]


def judgement(gap_by_seed: Gaps) -> dict[str, Any]:
    """First and tied by density, and where one of ours is among them."""
    first = {d: min(gap_by_seed, key=lambda name: mean_gap(gap_by_seed[name][d])) for d in DENSITIES}
    tied = {d: _tied({name: by_density[d] for name, by_density in gap_by_seed.items()}, first[d]) for d in DENSITIES}
    return {
        "first": first,
        "first_ours": [d for d in DENSITIES if METHODS[first[d]].ours],
        "tied": tied,
        "tied_ours": [d for d in DENSITIES if any(METHODS[name].ours for name in tied[d])],
    }


def mean_gap(gaps: Sequence[float | None]) -> float:
    """Infinite where a run failed."""
    return statistics.fmean(math.inf if gap is None else gap for gap in gaps)


def _tied(gaps: Mapping[str, Sequence[float | None]], first: str) -> list[str]:
    tied = [first]
    best = [math.log(max(gap, LEAST)) for gap in gaps[first] if gap is not None]
    for name, values in gaps.items():
        if name == first or None in values or len(best) != len(values):
            continue
        logs = (math.log(max(gap, LEAST)) for gap in values if gap is not None)
        leads = [b - a for b, a in zip(logs, best, strict=True)]
        if statistics.fmean(leads) < min(FAR, ERRORS * statistics.stdev(leads) / len(leads) ** 0.5):
            tied.append(name)
    return tied


def main() -> None:
    path = RESULTS / "density2d.json"
    record = json.loads(path.read_text())
    by_seed = record["figures"]["gap_by_seed"]
    record["figures"] |= judgement(by_seed)
    write_text(path, json.dumps(record, indent=2) + "\n")
    tied = record["figures"]["tied"]
    gaps = {name: {d: mean_gap(by_seed[name][d]) for d in DENSITIES} for name in METHODS}
    order = sorted(METHODS, key=lambda name: statistics.median(gaps[name].values()))
    table = [
        [METHODS[name].title, *(_written(gaps[name][d]) + "=" * (name in tied[d]) for d in DENSITIES)] for name in order
    ]
    print(text_table(["mean NLL gap (nats); = first or tied", *DENSITIES], table))
    picture = plotting.heat_map(
        [[min(max(gap, LEAST), 10.0) if gap < math.inf else math.nan for gap in gaps[n].values()] for n in order],
        rows=[METHODS[name].title for name in order],
        columns=DENSITIES,
        label="nats above the truth, at most 10",
        title=f"Held-out NLL gap after {BUDGET:g} seconds, mean over seeds; framed: first or tied",
        marked=[(order.index(name), column) for column, d in enumerate(DENSITIES) for name in tied[d]],
    )
    plotting.save(picture, RESULTS / "density2d.png")


def _written(gap: float) -> str:
    return "failed" if gap == math.inf else f"{gap:.4f}" if gap < 10 else f"{gap:.3g}"


if __name__ == "__main__":
    main()
