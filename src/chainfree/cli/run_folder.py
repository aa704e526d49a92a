"""A run is a folder of plain files."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..engine import read_metrics
from ..engine.atomic import write_text
from ..engine.checkpoint import load_weights
from .errors import UsageError
from .generators import DataGenerator, empty_generator
from .models import Model, empty_model
from .parsing import dump_settings, parse_settings
from .settings import TrainSettings
from .sources import Source

__all__ = ["RunFolder", "free_folder"]


def free_folder(out: Path, name: str) -> Path:
    """A folder that is not there yet: ``name``, or ``name-2``, ``name-3``, ..."""
    numbered = (out / (name if number == 1 else f"{name}-{number}") for number in range(1, 1_000_000))
    return next(path for path in numbered if not path.exists())


@dataclass(frozen=True)
class RunFolder:
    """Where everything of one run lies.

    ``config.toml`` (all settings), ``schema.json`` (shape and columns of the rows), ``metrics.jsonl``, ``checkpoints/``,
    ``model.safetensors`` (the trained energy, in the data's units), ``report/`` (pictures and ``summary.json``); of the
    method vera also ``generator.safetensors``.
    """

    path: Path

    @property
    def config(self) -> Path:
        """All settings."""
        return self.path / "config.toml"

    @property
    def schema(self) -> Path:
        """Shape and columns of the rows."""
        return self.path / "schema.json"

    @property
    def metrics(self) -> Path:
        """One JSON object a log step."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def weights(self) -> Path:
        """The trained energy."""
        return self.path / "model.safetensors"

    @property
    def generator_weights(self) -> Path:
        """The trained generator, with the scaling back to the data's units."""
        return self.path / "generator.safetensors"

    @property
    def report(self) -> Path:
        """Folder of pictures and of ``summary.json``."""
        return self.path / "report"

    @classmethod
    def create(cls, settings: TrainSettings, source: Source) -> RunFolder:
        """Make a new run's folder with its config.

        Raises:
            UsageError: the named run exists, or the folder cannot be made.
        """
        out = Path(settings.out)
        if settings.name is not None:
            path = out / settings.name
            if path.exists():
                raise UsageError(f"{path} exists; go on with --resume {path}, or choose another --name")
        else:
            slug = re.sub(r"[^a-z0-9]+", "_", Path(settings.data).name.lower().replace("toy:", "")).strip("_")
            if settings.anomaly is not None:
                slug += f"_without_{settings.anomaly}"
            path = free_folder(out, slug)
        # filled under another name, so that there is no run with half of its files whenever the process is killed
        new = cls(out / f".{path.name}.{os.getpid()}.tmp")
        try:
            new.path.mkdir(parents=True)
            write_text(new.config, dump_settings(settings))
            schema = {
                "event_shape": list(source.train.shape[1:]),
                "columns": source.columns,
                "digest": source.digest(),
            }
            write_text(new.schema, json.dumps(schema, indent=2) + "\n")
            new.path.rename(path)
        except OSError as error:
            shutil.rmtree(new.path, ignore_errors=True)
            raise UsageError(f"cannot write the run folder {path}: {error.strerror}; choose another --out") from error
        return cls(path)

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """An existing run.

        Raises:
            UsageError: there is none.
        """
        run = cls(Path(path))
        if (run.path / "estimator.json").is_file():
            raise UsageError(f"{path} was made by chainfree train --task; use chainfree score, impute or sample")
        if not run.config.is_file():
            raise UsageError(f"{path} is no run folder (it has no config.toml); chainfree train makes one")
        return run

    def keep_settings(self, settings: TrainSettings) -> None:
        """Replace the run's settings."""
        write_text(self.config, dump_settings(settings))

    def require_same_data(self, source: Source) -> None:
        """Raise ``UsageError`` unless the data are the ones that the run began with: its scaling was fitted to them."""
        if self._schema()["digest"] != source.digest():
            raise UsageError(f"the data of {self.path} have changed since it began; start a new run")

    def settings(self) -> TrainSettings:
        """The settings that the run was started with."""
        return parse_settings(TrainSettings, ["--config", str(self.config)], command="train")

    def columns(self) -> tuple[str, ...] | None:
        """Names of a table's columns."""
        columns = self._schema()["columns"]
        return None if columns is None else tuple(columns)

    def event_shape(self) -> tuple[int, ...]:
        """Shape of a row."""
        return tuple(self._schema()["event_shape"])

    def records(self) -> list[dict[str, float]]:
        """The lines of ``metrics.jsonl``."""
        try:
            records = read_metrics(self.metrics)
            whole = all(isinstance(record["step"], int | float) for record in records)
        except (ValueError, LookupError, TypeError) as error:
            raise UsageError(f"{self.metrics} is damaged; delete it to go on without the training's curves") from error
        if not whole:
            raise UsageError(f"{self.metrics} is damaged; delete it to go on without the training's curves")
        return records

    def model(self) -> Model:
        """The trained model.

        Raises:
            CheckpointError: it is not there yet, or damaged.
        """
        model = empty_model(self.settings(), self.event_shape())
        load_weights(self.weights, model.in_data_units())
        model.energy.eval().requires_grad_(False)
        return model

    def generator(self) -> DataGenerator:
        """The trained generator.

        Raises:
            UsageError: the run's method has none.
            CheckpointError: it is not there yet, or damaged.
        """
        settings = self.settings()
        if settings.method != "vera":
            raise UsageError(
                f"{self.path} was trained by energy discrepancy and has no generator; train with --method vera, or fit a "
                "generator to its energy in Python: chainfree.fit_generator"
            )
        generator = empty_generator(settings, self.event_shape())
        load_weights(self.generator_weights, generator)
        return generator.eval().requires_grad_(False)

    def _schema(self) -> dict[str, Any]:
        try:
            schema = json.loads(self.schema.read_text(encoding="utf-8"))
            shape, columns, digest = schema["event_shape"], schema["columns"], str(schema["digest"])
            whole = isinstance(shape, list) and all(isinstance(n, int) and n > 0 for n in shape) and shape
            named = columns is None or (isinstance(columns, list) and all(isinstance(c, str) for c in columns))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{self.schema} is missing or damaged; train the run again") from error
        if not whole or not named:
            raise UsageError(f"{self.schema} is damaged; train the run again")
        return {"event_shape": shape, "columns": columns, "digest": digest}
