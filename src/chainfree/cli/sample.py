"""``chainfree sample``: new rows from the generator of a trained run."""

from __future__ import annotations

import csv
from pathlib import Path

import torch

from ..datasets import DataError
from ..engine.atomic import replacing
from .errors import UsageError
from .run_folder import RunFolder
from .table_tasks import holds_estimator, sample_table

__all__ = ["sample"]

_LARGEST_SEED = 2**63 - 1


def sample(run: str, out: str, rows: int = 1000, seed: int = 0, given: str | None = None) -> int:
    """Write new rows as the run's generator draws them, in the data's units and under the table's column names.

    Args:
        run: folder of a run trained by the method vera, or by the tasks density and synthesize.
        out: the .csv file to write; of a task also .csv.gz or .parquet.
        rows: how many.
        seed: of the draws: equal seeds give equal rows.
        given: of a task, values of any columns that the others are drawn given: COLUMN=VALUE,COLUMN=VALUE.
    """
    if holds_estimator(run):
        return sample_table(run, out, rows, seed, given)
    if given is not None and Path(run).exists():
        raise UsageError("--given is for runs of chainfree train --task synthesize or density; leave it out")
    folder = RunFolder.open(run)
    if Path(out).suffix != ".csv":
        raise UsageError(f"--out must end in .csv, got {out!r}")
    if rows < 1:
        raise UsageError(f"rows must be a whole number above 0, got {rows!r}")
    if not 0 <= seed <= _LARGEST_SEED:
        raise UsageError(f"seed must be from 0 to 2**63 - 1, got {seed!r}")
    net = folder.generator()
    drawn = net.sample(rows, generator=torch.Generator().manual_seed(seed))
    if not torch.isfinite(drawn).all():
        raise DataError("the generator draws rows that are not finite; train the run anew with --scaling linear")
    # as arrays without names are called when they are read
    names = folder.columns() or tuple(f"x{i}" for i in range(drawn.shape[1]))
    try:
        with replacing(Path(out)) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(names)
            writer.writerows(drawn.tolist())
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror}; choose another --out") from error
    print(f"{rows:,} rows drawn to {out}: {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}")  # noqa: T201
    return 0
