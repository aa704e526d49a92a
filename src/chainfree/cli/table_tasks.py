"""``chainfree train --task``, ``score``, ``impute`` and ``sample`` of tables with columns of every kind."""

from __future__ import annotations

import csv
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..datasets import DataError
from ..evaluation import conformal_p_values
from ..evaluation.conformal import fewest_kept_out
from .errors import UsageError
from .run_folder import free_folder
from .table_writer import writing_table
from .tables import text_table
from .threads import set_threads

if TYPE_CHECKING:
    import pandas as pd

    from ..tables import Schema

__all__ = ["Task", "holds_estimator", "impute", "sample_table", "score_table", "train_table"]

Task = Literal["outlier", "density", "classifier", "impute", "synthesize"]

_CLASSES = {
    "outlier": "EnergyOutlierDetector",
    "density": "EnergyDensity",
    "classifier": "JointEnergyClassifier",
    "impute": "EnergyImputer",
    "synthesize": "EnergySynthesizer",
}
_TASK_OF = {name: task for task, name in _CLASSES.items()}


def train_table(
    *,
    data: str,
    task: Task,
    label: str | None = None,
    drop: str | None = None,
    out: str | None = None,
    steps: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    threads: int | None = None,
) -> int:
    """Fit an estimator to a table with columns of every kind, and write it to a folder.

    Args:
        data: a .csv, .csv.gz or .parquet file.
        task: what is fitted.
        label: the column of the classes, for the classifier; empty cells are unknown.
        drop: columns to leave out, between commas.
        out: folder to write, by default runs/NAME-TASK or, if it is there, runs/NAME-TASK-2 and so on.
        steps: of training at most; the estimator's own by default.
        seed: of everything random.
        device: of the network.
        threads: that compute; all by default.
    """
    from ..estimators.base import require_device
    from ..estimators.saved import ESTIMATORS
    from ..tables import read_file

    if (label is None) == (task == "classifier"):
        raise UsageError("give --label COLUMN with --task classifier, and with no other task")
    if steps is not None and steps < 0:
        raise UsageError(f"--steps must be 0 or more, got {steps}")
    try:
        require_device(device)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if threads is not None:
        set_threads(threads)
    frame = read_file(data, drop=tuple(_listed(drop)) if drop else ())
    y = None
    if label is not None:
        if label not in frame.columns:
            raise DataError(f"{data} has no column {label!r}; it has {', '.join(map(str, frame.columns))}")
        y = frame.pop(label)
    settings: dict[str, Any] = {"random_state": seed, "device": device, "verbose": 1}
    if steps is not None:
        settings["max_iter"] = steps
    estimator = ESTIMATORS[_CLASSES[task]](**settings)
    folder = free_folder(Path("runs"), f"{_stem(data)}-{task}") if out is None else Path(out)
    if folder.exists():
        raise UsageError(f"{folder} exists; choose another --out")
    started = time.perf_counter()
    fit: Any = estimator
    fit.fit(frame, None if y is None else y.to_numpy())
    seconds = time.perf_counter() - started
    estimator.save(folder)
    facts = [["rows", f"{len(frame):,}"], ["columns", f"{frame.shape[1]}"], *_facts(estimator)]
    facts += [["steps", f"{estimator.n_iter_:,}"], ["seconds", f"{seconds:.1f}"], ["folder", str(folder)]]
    print(text_table([_CLASSES[task], ""], facts))  # noqa: T201
    return 0


def holds_estimator(run: str) -> bool:
    """Whether a folder is one that ``chainfree train --task`` made."""
    return (Path(run) / "estimator.json").is_file()


def score_table(run: str, data: str, out: str) -> int:
    """Scores of every row of a file, as many at a time as memory likes."""
    from ..estimators import load

    estimator: Any = load(run)
    task = _TASK_OF[type(estimator).__name__]
    if task not in ("outlier", "density", "classifier"):
        instead = "impute" if task == "impute" else "sample"
        raise UsageError(f"{run} is of the task {task}, which scores nothing; use chainfree {instead}")
    odd = 0
    with writing_table(out) as writer:
        for part in _parts(data, estimator):
            scores = _scores(estimator, task, _of_columns(part, estimator, data))
            odd += int(scores["outlier"].sum()) if task == "outlier" else 0
            writer.write(scores)
        rows = writer.rows
    told = f", {odd:,} of them outliers" if task == "outlier" else ""
    if task == "outlier" and estimator.offset_ == -float("inf"):
        told += f"; none can be before {fewest_kept_out(estimator.level)} rows are kept out from training"
    print(f"{rows:,} rows scored to {out}{told}")  # noqa: T201
    return 0


def impute(run: str, data: str, out: str) -> int:
    """Fill the missing cells of a table.

    Args:
        run: folder of chainfree train --task impute.
        data: a .csv, .csv.gz or .parquet file with the columns that were fitted; others are kept as they are.
        out: the .csv, .csv.gz or .parquet file to write.
    """
    from ..estimators import EnergyImputer, load

    estimator = load(run)
    if not isinstance(estimator, EnergyImputer):
        raise UsageError(f"{run} is of the task {_TASK_OF[type(estimator).__name__]}; train one with --task impute")
    filled, left = 0, Counter[str]()
    with writing_table(out) as writer:
        for part in _parts(data, estimator):
            own = _of_columns(part, estimator, data)
            done = estimator.transform(own)
            filled += int(own.isna().to_numpy().sum())
            others = part.drop(columns=own.columns)
            left.update({str(name): int(others[name].isna().sum()) for name in others})
            writer.write(part.assign(**{name: done[name] for name in done.columns}))
        rows = writer.rows
    print(f"{filled:,} cells of {rows:,} rows filled, written to {out}")  # noqa: T201
    if left.total():
        names = ", ".join(name for name, count in left.items() if count)
        print(f"{left.total():,} are still missing in columns that were not fitted: {names}")  # noqa: T201
    return 0


def sample_table(run: str, out: str, rows: int, seed: int, given: str | None) -> int:
    """New rows of a fitted table, given any of its columns."""
    from ..estimators import EnergyDensity, EnergySynthesizer, load
    from ..tables import NumberColumn

    estimator = load(run)
    if not isinstance(estimator, EnergyDensity | EnergySynthesizer):
        raise UsageError(f"{run} is of the task {_TASK_OF[type(estimator).__name__]}; train one with --task synthesize")
    if rows < 1:
        raise UsageError(f"rows must be a whole number above 0, got {rows!r}")
    schema = estimator.model_.encoder.schema
    values = _given(given, schema)
    drawn = estimator.sample(rows, given=values, random_state=seed % 2**32)
    numbers = [column for column in schema.columns if isinstance(column, NumberColumn) and not column.dates]
    for name, low, high in ((c.name, c.low, c.high) for c in numbers if values.get(c.name) is not None):
        if not low <= values[name] <= high:
            print(f"{name}={values[name]:g} is beyond the table's {low:g} to {high:g}: a guess")  # noqa: T201
    with writing_table(out) as writer:
        writer.write(drawn)
    print(f"{rows:,} rows drawn to {out}: {', '.join(drawn.columns[:8])}{', ...' if drawn.shape[1] > 8 else ''}")  # noqa: T201
    return 0


def _given(text: str | None, schema: Schema) -> dict[str, Any]:
    """``a=1,b=two`` as a mapping, values as their columns have them; nothing after = is a missing cell."""
    from ..tables import CategoryColumn, NumberColumn

    columns = {column.name: column for column in schema.columns}
    given: dict[str, Any] = {}
    for part in _listed(text) if text else ():
        name, sign, value = (piece.strip() for piece in part.partition("="))
        if not sign or not name:
            raise UsageError(f'--given takes COLUMN=VALUE,COLUMN=VALUE, got {part!r}; with commas in it "COLUMN=VALUE"')
        if name in given:
            raise UsageError(f"--given names {name} twice")
        column = columns.get(name)
        is_text = isinstance(column, CategoryColumn) and isinstance(column.values[0], str)
        is_date = isinstance(column, NumberColumn) and column.dates
        given[name] = (value if is_text or is_date else _number(value)) if value else None
    return given


def _number(text: str) -> bool | float | str:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return float(text)
    except ValueError:
        return text  # the column says that it takes none


def _scores(estimator: Any, task: str, frame: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    if task == "density":
        return pd.DataFrame({"log_density": estimator.score_samples(frame)})
    if task == "outlier":
        scores = estimator.score_samples(frame)
        p_values = conformal_p_values(estimator.calibration_energies_, -scores)
        return pd.DataFrame({"energy": -scores, "p_value": p_values, "outlier": scores < estimator.offset_})
    probabilities = estimator.predict_proba(frame)
    answers = {"prediction": estimator.classes_[probabilities.argmax(1)]}
    by_class = {f"p({name})": probabilities[:, place] for place, name in enumerate(estimator.classes_)}
    return pd.DataFrame({**answers, **by_class})


def _parts(data: str, estimator: Any) -> Iterator[pd.DataFrame]:
    """A file's rows, with text and dates where these were fitted."""
    from ..tables import CategoryColumn, NumberColumn, read_parts

    columns = estimator.model_.encoder.schema.columns
    text = [c.name for c in columns if isinstance(c, CategoryColumn) and isinstance(c.values[0], str)]
    return read_parts(data, text=text, dates=[c.name for c in columns if isinstance(c, NumberColumn) and c.dates])


def _listed(text: str) -> list[str]:
    """What stands between commas; in quotes a comma is a sign like others."""
    return [part.strip() for part in next(csv.reader([text], skipinitialspace=True))]


def _of_columns(part: pd.DataFrame, estimator: Any, data: str) -> pd.DataFrame:
    """The columns that were fitted, in their order."""
    lacking = [name for name in estimator.feature_names_in_ if name not in part.columns]
    if lacking:
        raise DataError(f"{data} has no column {lacking[0]!r}, which was fitted; it has {', '.join(part.columns)}")
    return part[list(estimator.feature_names_in_)]


def _facts(estimator: Any) -> list[list[str]]:
    """What a person wants to know of a fit, as rows of a table."""
    model = estimator.model_
    if hasattr(estimator, "calibration_energies_"):
        kept_out = len(estimator.calibration_energies_)
        threshold = f"{-estimator.offset_:.4g}"
        if estimator.offset_ == -float("inf"):
            threshold = f"none: no row can be an outlier before {fewest_kept_out(estimator.level)} rows are kept out"
        return [["rows kept out for p-values", f"{kept_out:,}"], ["threshold of the energy", threshold]]
    if hasattr(estimator, "classes_"):
        named = ", ".join(map(str, estimator.classes_[:8])) + (", ..." if len(estimator.classes_) > 8 else "")
        facts = [["classes", f"{len(estimator.classes_)}: {named}"], ["temperature", f"{model.temperature:.3f}"]]
        if model.held_out is not None:  # no test: the step was chosen by them
            facts.append(["held-out accuracy, of the labels that chose the step", f"{model.held_out.accuracy:.3f}"])
            facts.append(["their log-loss", f"{model.held_out.nll:.3f} nats"])
        return facts
    if model.held_out is None:
        return []
    if model.held_out <= model.held_out_base:
        kept = "the mixture: no tilt by the network was likelier on held-out rows"
        return [["held-out log-likelihood, of scaled rows", f"{model.held_out:.4f} nats"], ["kept", kept]]
    return [
        ["held-out log-likelihood, of scaled rows", f"{model.held_out:.4f} nats"],
        ["of the mixture alone", f"{model.held_out_base:.4f} nats"],
        ["log Z", f"{model.log_z.value:.4f} +- {model.log_z.standard_error:.4f}"],
    ]


def _stem(data: str) -> str:
    return Path(data).name.partition(".")[0]
