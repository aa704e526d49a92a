"""``chainfree evaluate``, ``score`` and ``plot``: what a trained run is good for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..datasets import DataError, read_table
from ..engine.atomic import replacing
from .errors import UsageError
from .models import Model
from .report import draw_report, energies, evaluate_run, summary_text
from .run_folder import RunFolder
from .sources import Source, load_source
from .table_tasks import holds_estimator, score_table

__all__ = ["evaluate", "plot", "score"]


def evaluate(run: str) -> int:
    """Print the held-out scores of a run and write them to its ``report/summary.json``.

    Args:
        run: folder of a trained run.
    """
    folder, source, model = _trained(run)
    summary = evaluate_run(folder.settings(), source, model)
    print(summary_text(summary))  # noqa: T201
    draw_report(folder, source, model, summary)
    return 0


def plot(run: str) -> int:
    """Draw the pictures of a run again.

    Args:
        run: folder of a trained run.
    """
    folder, source, model = _trained(run)
    for name in draw_report(folder, source, model, _summary(folder, source, model)):
        print(folder.report / name)  # noqa: T201
    return 0


def score(run: str, data: str, out: str, key: str | None = None) -> int:
    """Write the energy of every row of a file: low is likely, high is anomalous.

    Args:
        run: folder of a trained run, or of a task: then p-values, densities or probabilities are written.
        data: a table with the run's columns (others are ignored), or an .npy/.npz array of as many columns.
        out: the .csv file to write; of a task also .csv.gz or .parquet.
        key: the array of an .npz file.
    """
    if holds_estimator(run):
        if key is not None:
            raise UsageError("--key is for arrays, and tasks take tables; leave it out")
        return score_table(run, data, out)
    folder = RunFolder.open(run)
    model = folder.model()
    if Path(out).suffix != ".csv":
        raise UsageError(f"--out must end in .csv, got {out!r}")
    rows = _rows(folder, data, key)
    values = energies(model, rows).double().numpy()
    if not np.isfinite(values).all():
        bad = np.flatnonzero(~np.isfinite(values))
        raise DataError(f"{len(bad)} rows lie too far out for a finite energy, first row {bad[0]}; check their units")
    try:
        with replacing(Path(out)) as temporary:
            np.savetxt(temporary, values, fmt="%.9g", header="energy", comments="")
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror}; choose another --out") from error
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
    spread = f"{low:.4g} (5%), {middle:.4g} (median), {high:.4g} (95%)"
    print(f"{len(values):,} rows scored to {out}: energy {spread}; high is anomalous")  # noqa: T201
    return 0


def _trained(run: str) -> tuple[RunFolder, Source, Model]:
    folder = RunFolder.open(run)
    return folder, load_source(folder.settings()), folder.model()


def _summary(folder: RunFolder, source: Source, model: Model) -> dict[str, Any]:
    path = folder.report / "summary.json"
    if not path.is_file():
        return evaluate_run(folder.settings(), source, model)
    try:
        summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        summary_text(summary)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is damaged; delete it and run chainfree evaluate {folder.path}") from error
    return summary


def _rows(folder: RunFolder, data: str, key: str | None) -> Tensor:
    columns, shape = folder.columns(), folder.event_shape()
    # columns of a table go by name, those of an array by position
    by_position = columns is None or Path(data).suffix in (".npy", ".npz")
    table = read_table(data, key=key, columns=None if by_position else columns)
    if by_position and len(table.columns) != int(np.prod(shape)):
        raise DataError(f"{data} has {len(table.columns)} columns, the run was trained on rows of shape {shape}")
    # float64 until scaled: a large offset must not eat a small spread
    rows = torch.from_numpy(table.values)
    return rows if columns is not None else rows.float().view(-1, *shape)
