"""What the benchmarks share: run them from the repository's root, ``python -m benchmarks.NAME``."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from chainfree.cli.models import Model, fitted_model
from chainfree.cli.parsing import parse_settings
from chainfree.cli.report import evaluate_run
from chainfree.cli.settings import TrainSettings
from chainfree.cli.sources import Source, load_source
from chainfree.cli.train import engine_for, stream_for
from chainfree.threads import use_threads

RESULTS = Path("results")


def settings_from(config: str | None = None, *flags: str, **changes: Any) -> TrainSettings:
    """Settings as ``chainfree train`` would read them, then changed."""
    arguments = ([] if config is None else ["--config", config]) + list(flags)
    return dataclasses.replace(parse_settings(TrainSettings, arguments, command="train"), **changes)


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained model, and the seconds its training took without loading data, evaluation and pictures."""

    settings: TrainSettings
    source: Source
    model: Model
    seconds: float
    steps: int

    def scores(self) -> dict[str, Any]:
        """What ``chainfree evaluate`` prints."""
        return evaluate_run(self.settings, self.source, self.model)


def train(settings: TrainSettings, *, silent: bool = True) -> Trained:
    """The very training that ``chainfree train`` does: fit the scaling and the base, then the network."""
    source = load_source(settings)
    started = time.perf_counter()
    model = fitted_model(settings, source.train, source.columns)
    engine = engine_for(settings, source, model, run=None)
    report = engine.fit(stream_for(settings, source, model), steps=settings.steps)
    seconds = time.perf_counter() - started
    trained = Model(engine.averaged_energy(), model.coordinates)
    if not silent:
        print(f"{source.title}: {report.steps} steps in {seconds:.1f} s", flush=True)
    return Trained(settings, source, trained, seconds, report.steps)


def one_thread() -> None:
    """Every timing here is on one thread."""
    use_threads(1)


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return float(torch.tensor(values, dtype=torch.float64).median())
