"""Many runs on all cores, each on one thread."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.density2d.protocol import BUDGET, Outcome, run
from chainfree.experiments.record import commit

__all__ = ["Job", "outcomes"]


@dataclass(frozen=True)
class Job:
    """One run."""

    method: str
    settings: Mapping[str, Any]
    density: str
    seed: int
    held_out: int
    budget: float = BUDGET


def outcomes(jobs: Sequence[Job], notes: Path) -> Iterator[tuple[Job, Outcome]]:
    """Run them in a shuffled order, so that a busy quarter of an hour falls on all methods alike.

    Args:
        jobs: the runs.
        notes: a file that every outcome is added to at once. What it has already of these very jobs at this commit is not run
            again, so that an hour's work survives a kill; the caller removes it when all is done.
    """
    order = list(jobs)
    random.Random(0).shuffle(order)
    here, known = commit(), {}
    if notes.exists():
        for line in notes.read_text().splitlines():
            noted = json.loads(line)
            if noted["commit"] == here and not here.endswith("+changes"):
                known[noted["job"]] = Outcome(**noted["outcome"])
    for job in order:
        if _key(job) in known:
            yield job, known[_key(job)]
    order = [job for job in order if _key(job) not in known]
    started = time.perf_counter()
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that are to come
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=context) as pool:
        waiting = {pool.submit(_outcome, job): job for job in order}
        for count, done in enumerate(as_completed(waiting), 1):
            job, outcome = waiting[done], done.result()
            left = (time.perf_counter() - started) / count * (len(order) - count)
            said = outcome.reason or f"gap {outcome.gap:.4f}"
            print(
                f"[{count}/{len(order)}, {left / 60:.0f} min left] {job.method}, {job.density}, seed {job.seed}, "
                f"{dict(job.settings)}: {said}, {outcome.steps} steps",
                flush=True,
            )
            with notes.open("a") as file:
                file.write(json.dumps({"commit": here, "job": _key(job), "outcome": asdict(outcome)}) + "\n")
            yield job, outcome


def _key(job: Job) -> str:
    return json.dumps(asdict(job), sort_keys=True)


def _outcome(job: Job) -> Outcome:
    return run(job.method, job.settings, job.density, job.seed, held_out=job.held_out, budget=job.budget)
