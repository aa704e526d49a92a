"""Metrics as JSON lines: the right means, every step once, whatever killed the writer."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import chainfree as cf
from chainfree.engine import (
    Callback,
    Constant,
    Engine,
    Guard,
    MetricsFile,
    OptimizerSettings,
    latest_checkpoint,
    read_metrics,
)
from chainfree.engine.metric_sums import MetricSums
from chainfree.typing import Energy, LossOutput


class Counting:
    """A loss that reports 0, 1, 2, ... as a metric."""

    def __init__(self, broken_at: int | None = None) -> None:
        self.count, self.broken_at = 0, broken_at

    def __call__(self, energy: Energy, x: Tensor, /, *, generator: torch.Generator | None = None) -> LossOutput:
        values = energy(x)
        metrics = {"count": torch.tensor(float(self.count))}
        if self.count % 2:
            metrics["odd"] = torch.tensor(10.0 * self.count)
        broken = self.count == self.broken_at
        self.count += 1
        return LossOutput(values.square().mean() * (math.nan if broken else 1.0), metrics)


class StopAt(Callback):
    def __init__(self, step: int | None) -> None:
        self.step = step

    def on_step(self, engine: Engine) -> None:
        if engine.step == self.step:
            engine.request_stop("split")


def _engine(path: Path, loss: Any, *, stop: int | None = None, **options: Any) -> Engine:
    torch.manual_seed(0)
    callbacks = [MetricsFile(path), StopAt(stop)]
    options = {"log_every": 10, "schedule": Constant(), "optimizer": OptimizerSettings(lr=1e-4), **options}
    return Engine(cf.energies.MLP(dim=2, width=4), loss, callbacks=callbacks, **options)


def test_records_hold_the_means_of_their_interval(rows: Tensor, tmp_path: Path) -> None:
    path = tmp_path / "runs" / "metrics.jsonl"
    _engine(path, Counting()).fit(cf.batches(rows, size=16), steps=25)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [record["step"] for record in records] == [10, 20, 25]  # the last step is always logged
    assert [record["count"] for record in records] == [4.5, 14.5, 22.0]
    assert [record["odd"] for record in records] == [50.0, 150.0, 220.0]  # over the steps that had it
    assert all(record["lr"] == 1e-4 for record in records)
    assert read_metrics(path) == records


def test_means_run_over_accumulated_batches_too(rows: Tensor, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    _engine(path, Counting(), accumulate=3).fit(cf.batches(rows, size=16), steps=10)
    assert read_metrics(path)[0]["count"] == 14.5  # of 0, ..., 29


def test_the_learning_rate_is_the_one_of_the_step(rows: Tensor, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    schedule = cf.engine.Cosine(warmup=4)
    _engine(path, Counting(), schedule=schedule, log_every=1).fit(cf.batches(rows, size=16), steps=8)
    expected = [1e-4 * f for f in (0.25, 0.5, 0.75, 1.0, *(0.5 * (1 + math.cos(math.pi * t / 4)) for t in range(4)))]
    assert [record["lr"] for record in read_metrics(path)] == pytest.approx(expected)


@pytest.mark.parametrize("cut", [30, 33])
def test_a_resumed_run_writes_every_step_once(cut: int, rows: Tensor, tmp_path: Path) -> None:
    """And the same lines, also when it was cut between two records."""
    loss = cf.losses.EnergyDiscrepancy()
    straight, split, folder = tmp_path / "straight.jsonl", tmp_path / "split.jsonl", tmp_path / "checkpoints"
    _engine(straight, loss).fit(cf.batches(rows, size=16), steps=60)

    _engine(split, loss, stop=cut, checkpoints=folder).fit(cf.batches(rows, size=16), steps=60)
    # the dead run got further than its checkpoint, and was killed in mid-write
    with split.open("a") as file:
        file.write('{"step": 40, "loss": 1.0}\n{"step": 45, "event": "guard", "message": "x"}\n{"step": 50, "lo')
    assert [record["step"] for record in read_metrics(split)] == [10, 20, 30, 40, 45]
    resumed = _engine(split, loss)
    resumed.resume(latest_checkpoint(folder))
    resumed.fit(cf.batches(rows, size=16), steps=60)
    assert split.read_text() == straight.read_text()


def test_steps_that_the_guard_takes_back_are_dropped(rows: Tensor, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    # call 47 is step 47; back to 40, and the calls go on
    _engine(path, Counting(broken_at=47), guard=Guard(every=20), log_every=5).fit(cf.batches(rows, size=16), steps=60)
    records = read_metrics(path)
    assert [record["step"] for record in records if "event" not in record] == list(range(5, 61, 5))
    event = next(record for record in records if "event" in record)
    assert (event["step"], event["event"]) == (40, "guard") and "nan at step 47" in str(event["message"])
    assert records.index(event) == 8
    assert records[9]["count"] == 50.0  # 48, ..., 52: nothing of the steps taken back

    # back to the middle of an interval: the mean of 40, 41, and of 48, ..., 55, without the steps taken back
    path.unlink()
    _engine(path, Counting(broken_at=47), guard=Guard(every=21), log_every=10).fit(cf.batches(rows, size=16), steps=60)
    record = next(record for record in read_metrics(path) if record["step"] == 50 and "count" in record)
    assert record["count"] == pytest.approx((40 + 41 + sum(range(48, 56))) / 10)


def test_a_second_fit_appends(rows: Tensor, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    engine, data = _engine(path, Counting()), cf.batches(rows, size=16)
    engine.fit(data, steps=20)
    engine.fit(data, steps=40)
    assert [record["step"] for record in read_metrics(path)] == [10, 20, 30, 40]


def test_lines_are_on_disk_at_once(rows: Tensor, tmp_path: Path) -> None:
    """A kill loses nothing that was logged."""
    path, seen = tmp_path / "metrics.jsonl", []

    class Reader(Callback):
        def on_log(self, engine: Engine, record: Mapping[str, float]) -> None:
            seen.append(len(read_metrics(path)))

    torch.manual_seed(0)
    engine = Engine(cf.energies.MLP(dim=2, width=4), Counting(), callbacks=[MetricsFile(path), Reader()], log_every=5)
    engine.fit(cf.batches(rows, size=16), steps=20)
    assert seen == [1, 2, 3, 4]


@pytest.mark.parametrize("tail", ["", "{", '{"step": 3', '{"step": 3}'])
def test_an_unfinished_last_line_is_left_out(tail: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.25}\n' + tail)
    assert read_metrics(path) == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}]


def test_no_file_is_no_metrics(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "none.jsonl") == []
    (tmp_path / "empty.jsonl").touch()
    assert read_metrics(tmp_path / "empty.jsonl") == []


# -- sums --------------------------------------------------------------------------------------------------------------


def test_sums_give_means_and_start_anew() -> None:
    sums = MetricSums()
    assert sums.means() == {}
    for value in (1.0, 2.0, 6.0):
        sums.add({"a": torch.tensor(value), "b": torch.tensor(value, dtype=torch.float64)})
    sums.add({"c": torch.tensor(7)})
    assert sums.means() == {"a": 3.0, "b": 3.0, "c": 7.0}
    assert sums.means() == {}
    sums.add({"a": torch.tensor(5.0)})
    assert sums.means() == {"a": 5.0}
    sums.add({"a": torch.tensor(5.0)})
    sums.clear()
    assert sums.means() == {}


def test_a_metric_that_changes_in_place_is_noted_as_it_was() -> None:
    """``parameter.detach()`` is the parameter's own memory: a learnt log Z, say."""
    log_z = torch.nn.Parameter(torch.tensor(1.0))
    sums = MetricSums()
    for value in (1.0, 2.0, 6.0):
        with torch.no_grad():
            log_z.fill_(value)
        sums.add({"log_z": log_z.detach()})
    with torch.no_grad():
        log_z.fill_(100.0)
    assert sums.means() == {"log_z": 3.0}
    sums.add({"log_z": log_z.detach()})
    sums.add({"log_z": log_z.detach()})
    assert log_z.item() == 100.0  # and is not added to
