"""A fixed list of bad inputs, generated from a seed; each must be refused as documented."""

from __future__ import annotations

import contextlib
import io
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.faults.command_cases import config_cases, flag_cases, of_process_cases
from benchmarks.faults.file_cases import file_cases, run_cases
from benchmarks.faults.library_cases import library_cases
from benchmarks.faults.settings import SEED, TINY
from chainfree.cli import main as chainfree_main


def bad_inputs(rng: random.Random) -> dict[str, Any]:
    """Try them all; which were not refused as they should be."""
    np.save("rows.npy", np.random.default_rng(SEED).normal(size=(40, 3)))
    Path("runs").mkdir()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        # a csv file, so that its columns have names that scored rows must have
        np.savetxt("good.csv", np.load("rows.npy"), delimiter=",", header="x0,x1,x2", comments="")
        status = chainfree_main(["train", "--data", "good.csv", *TINY, "--name", "good", "--out", "."])
    if status != 0:
        raise RuntimeError(f"the run to be spoilt was not trained: status {status}")
    cases = [
        *flag_cases(),
        *config_cases(rng),
        *file_cases(rng),
        *run_cases(rng),
        *library_cases(),
    ]
    problems = {case.name: case.refuse() for case in cases}
    in_processes = list(of_process_cases(rng))
    with ThreadPoolExecutor(2) as pool:
        problems |= dict(
            zip([case.name for case in in_processes], pool.map(lambda case: case.refuse(), in_processes), strict=True)
        )
    failed = {name: problem for name, problem in problems.items() if problem is not None}
    return {"bad_inputs_tried": len(cases) + len(in_processes), "tracebacks": len(failed), "not_refused": failed}
