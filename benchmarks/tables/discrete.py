"""Log-likelihood of binary tables: a mixture of products tilted by a network, with a bracket on its log Z.

The nine sets of the density estimation benchmarks (Van Haaren and Davis, AAAI 2012): fitted to their training and validation
rows, of which as many as the latter are held out by the estimator, and scored once on the test rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.asked import answers, jobs_from_arguments
from benchmarks.common import RESULTS
from chainfree.cli.tables import text_table
from chainfree.datasets.locate import find
from chainfree.estimators import EnergyDensity
from chainfree.experiments import Recorder
from chainfree.tables import CategoryColumn, Schema
from chainfree.threads import use_threads

SETS = ("nltcs", "plants", "baudio", "mushrooms", "accidents", "pumsb_star", "nips", "moviereview", "voting")
SEEDS = (0,)
KEYS = ("log_likelihood", "low", "high", "error_of_rows", "mixture", "components", "seconds")


def main() -> None:
    jobs = jobs_from_arguments(__doc__)
    recorder = Recorder("discrete", "python -m benchmarks.tables.discrete", RESULTS, SEEDS)
    asked = [{"set": name, "seed": seed} for name in SETS for seed in SEEDS]
    notes = answers("discrete", answer, asked, jobs=jobs)
    figures = {key: {name: notes[{"set": name, "seed": SEEDS[0]}][key] for name in SETS} for key in KEYS}
    print(text_table(["set", *KEYS], [[name, *(f"{figures[key][name]:.3f}" for key in KEYS)] for name in SETS]))
    print(recorder.write({**figures, "taken_up": len(asked) - notes.added}))


def answer(question: Mapping[str, Any]) -> dict[str, float]:
    """One set."""
    import time

    use_threads(1)
    with np.load(find(f"discrete/{question['set']}.npz")) as file:
        parts = {part: frame_of(file[f"x_{part}"]) for part in ("train", "valid", "test")}
    # every bit may be 0 and 1, whatever the training rows have
    schema = Schema(tuple(CategoryColumn(name=name, values=(0, 1)) for name in parts["train"].columns))
    started = time.perf_counter()
    rows = pd.concat([parts["train"], parts["valid"]], ignore_index=True)
    density = EnergyDensity(
        schema=schema,
        max_components=256,
        max_iter=4000,
        validation_fraction=len(parts["valid"]) / len(rows),
        random_state=question["seed"],
    ).fit(rows)
    seconds = time.perf_counter() - started
    scores = density.score_samples(parts["test"])
    value, low, high = density.log_partition_
    base = density.model_.energy.base
    encoded = density.model_.encoder.encode(parts["test"])
    return {
        "log_likelihood": float(scores.mean()),
        # the bracket of log Z, turned round
        "low": float(scores.mean()) - (high - value),
        "high": float(scores.mean()) + (value - low),
        "error_of_rows": float(scores.std() / math.sqrt(len(scores))),
        "mixture": float(base.log_prob(encoded).mean()),  # type: ignore[operator]
        "components": float(base.components),  # type: ignore[arg-type]
        "seconds": seconds,
    }


def frame_of(bits: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(bits.astype(np.int64), columns=[f"x{place}" for place in range(bits.shape[1])])


if __name__ == "__main__":
    main()
