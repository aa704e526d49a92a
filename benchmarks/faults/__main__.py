"""What the program makes of kills, bad input and divergence: ``python -m benchmarks.faults``.

SIGKILLs fall on two trainings, one by energy discrepancy and one by VERA with three players, some while they start
and some while they write a checkpoint; each time the training is taken up with ``chainfree train --resume``, and the weights
at the end are compared byte for byte with those of a training that was left alone. Then a fixed list of bad inputs, generated
from a seed, is given to the program and to the library; each must be refused as documented. Last, three ways of diverging.
Every resume imports the sources anew: leave them alone meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import random
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.common import RESULTS, one_thread
from benchmarks.faults.bad_inputs import bad_inputs
from benchmarks.faults.guard import guard
from benchmarks.faults.kills import kills
from benchmarks.faults.settings import SEED
from chainfree.experiments import Recorder


def main() -> None:
    one_thread()
    rng = random.Random(SEED)
    recorder = Recorder("faults", "python -m benchmarks.faults", RESULTS, (SEED,))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "rows.npy", np.random.default_rng(SEED).normal(size=(400, 4)))
        ended = kills(folder, rng)
        print(json.dumps({k: v for k, v in ended.items() if not k.startswith("kill_history")}), flush=True)
        (folder / "bad").mkdir()
        with contextlib.chdir(folder / "bad"):
            bad = bad_inputs(rng)
        print(json.dumps(bad, indent=2), flush=True)
        ends = guard(folder / "guard")
    figures = {**ended, **bad, "guard": ends}
    print(json.dumps(ends, indent=2))
    print(recorder.write(figures, packages=["pyarrow"]))


if __name__ == "__main__":
    main()
