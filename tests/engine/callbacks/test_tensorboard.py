"""Event files, read back with TensorBoard's own reader."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import chainfree as cf
from chainfree.engine import Callback, Engine, MetricsFile, TensorBoard, latest_checkpoint, read_metrics

accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


class StopAt(Callback):
    def __init__(self, step: int | None) -> None:
        self.step = step

    def on_step(self, engine: Engine) -> None:
        if engine.step == self.step:
            engine.request_stop("split")


def _engine(folder: Path, *, stop: int | None = None, metrics: str = "metrics.jsonl", **options: Any) -> Engine:
    torch.manual_seed(0)
    callbacks = [TensorBoard(folder / "events"), MetricsFile(folder / metrics), StopAt(stop)]
    loss = cf.losses.EnergyDiscrepancy()
    return Engine(cf.energies.MLP(dim=2, width=4), loss, callbacks=callbacks, log_every=10, **options)


def _put_in_order(folder: Path) -> None:
    """Files are read by name, and those of one second and process sort "10" before "9"; real runs lie further apart."""
    for path in (folder / "events").iterdir():
        if not path.name.startswith("events.out.tfevents.0"):
            path.rename(path.with_name(f"events.out.tfevents.0{len(list(path.parent.iterdir()))}.{path.name[-3:]}"))


def _scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    _put_in_order(folder)
    reader = accumulators.EventAccumulator(str(folder / "events"))
    reader.Reload()
    return [(event.step, event.value) for event in reader.Scalars(tag)]


def test_every_metric_is_written(rows: Tensor, tmp_path: Path) -> None:
    _engine(tmp_path).fit(cf.batches(rows, size=16), steps=40)
    records = read_metrics(tmp_path / "metrics.jsonl")
    assert len(records) == 4 and {"loss", "energy_data", "energy_draws", "lr"} < set(records[0])
    for name in set(records[0]) - {"step"}:
        expected = [(record["step"], pytest.approx(record[name], rel=1e-6)) for record in records]
        assert _scalars(tmp_path, name) == expected


def test_events_are_written_as_text(tmp_path: Path) -> None:
    callback = TensorBoard(tmp_path / "events")
    engine = _engine(tmp_path / "other")
    callback.on_start(engine, 10)
    callback.on_event(engine, "guard", "back to step 20")
    callback.on_end(engine, "completed")
    reader = accumulators.EventAccumulator(str(tmp_path / "events"))
    reader.Reload()
    (tag,) = reader.Tags()["tensors"]
    assert tag.startswith("guard") and reader.Tensors(tag)[0].tensor_proto.string_val == [b"back to step 20"]


def test_a_resumed_run_shows_every_step_once(rows: Tensor, tmp_path: Path) -> None:
    """The dead run got to step 50, its checkpoint to step 30."""
    folder = tmp_path / "checkpoints"
    _engine(tmp_path, stop=30, checkpoints=folder).fit(cf.batches(rows, size=16), steps=60)
    _put_in_order(tmp_path)
    dead = _engine(tmp_path, stop=50)
    dead.resume(latest_checkpoint(folder))
    dead.fit(cf.batches(rows, size=16), steps=60)
    assert [step for step, _ in _scalars(tmp_path, "loss")] == [10, 20, 30, 40, 50]

    resumed = _engine(tmp_path)
    resumed.resume(latest_checkpoint(folder))
    resumed.fit(cf.batches(rows, size=16), steps=60)
    assert [step for step, _ in _scalars(tmp_path, "loss")] == [10, 20, 30, 40, 50, 60]


def test_a_second_fit_goes_on(rows: Tensor, tmp_path: Path) -> None:
    engine, data = _engine(tmp_path), cf.batches(rows, size=16)
    engine.fit(data, steps=20)
    _put_in_order(tmp_path)
    engine.fit(data, steps=40)
    assert [step for step, _ in _scalars(tmp_path, "loss")] == [10, 20, 30, 40]


def test_a_missing_tensorboard_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r"pip install 'chainfree\[tensorboard\]'"):
        TensorBoard(tmp_path)
