"""Checkpoint and weight files: whole or not there, and never code."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import chainfree as cf
from chainfree.engine import (
    CheckpointError,
    Engine,
    latest_checkpoint,
    load_checkpoint,
    load_weights,
    save_checkpoint,
    save_weights,
)
from chainfree.engine.atomic import replacing, write_text

STATE: dict[str, Any] = {"step": 3, "numbers": torch.arange(5.0), "nested": {"list": [torch.ones(2), "text", None]}}


def _file(legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save({"format": 2, **STATE}, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


# -- what is written ---------------------------------------------------------------------------------------------------


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "made" / "here", STATE, step=3)
    assert path.name == "step-000000003.pt"
    state = load_checkpoint(path)
    assert torch.equal(state["numbers"], STATE["numbers"])
    assert torch.equal(state["nested"]["list"][0], torch.ones(2)) and state["nested"]["list"][1:] == ["text", None]


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_newest_are_kept(tmp_path: Path, keep: int) -> None:
    """By step, not by name: ten digits sort before nine."""
    steps = [1, 20, 300, 999_999_999, 1_000_000_000]
    for number, step in enumerate(steps):
        save_checkpoint(tmp_path, STATE, step=step, keep=keep)
        kept = {path.name for path in tmp_path.iterdir()}
        assert kept == {f"step-{s:09d}.pt" for s in steps[: number + 1][-keep:]}
        assert latest_checkpoint(tmp_path).name == f"step-{step:09d}.pt"


def test_two_are_kept_by_default(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        save_checkpoint(tmp_path, STATE, step=step)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000020.pt", "step-000000030.pt"]


@pytest.mark.parametrize("make", [lambda f: None, lambda f: f.mkdir()])
def test_no_checkpoint_is_said_in_one_line(tmp_path: Path, make: Any) -> None:
    make(tmp_path / "runs")
    with pytest.raises(CheckpointError, match=r"no checkpoint in .*runs; start the training anew"):
        latest_checkpoint(tmp_path / "runs")


def test_other_files_are_no_checkpoints(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, STATE, step=5)
    for name in [".step-000000009.pt.123.tmp", "step-9.pt.bak", "step-x.pt", "xstep-9.pt", "step-9.pth"]:
        (tmp_path / name).write_bytes(b"half")
    assert latest_checkpoint(tmp_path).name == "step-000000005.pt"


def test_the_temporary_files_of_killed_runs_are_cleared_away(tmp_path: Path) -> None:
    """Each is as large as a checkpoint; a run that is killed every night would fill the disk."""
    stale = tmp_path / ".step-000000004.pt.999999.tmp"
    stale.write_bytes(b"half")
    other = tmp_path / ".notes.tmp"
    other.write_bytes(b"mine")
    save_checkpoint(tmp_path, STATE, step=5)
    assert not stale.exists() and other.exists()


# -- a write that fails ------------------------------------------------------------------------------------------------


def test_a_write_that_fails_leaves_the_old_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: Tensor) -> None:
    save, half = torch.save, _file()[:100]
    healthy = True

    def sometimes(state: Any, path: Path) -> None:
        if healthy:
            save(state, path)
        else:
            path.write_bytes(half)
            raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", sometimes)
    engine = Engine(
        cf.energies.MLP(dim=2, width=4), cf.losses.EnergyDiscrepancy(), checkpoints=tmp_path, checkpoint_every=5
    )
    data = cf.batches(rows, size=16)
    engine.fit(data, steps=10)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    healthy = False
    with pytest.raises(OSError, match="no space left"):
        engine.fit(data, steps=20)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert load_checkpoint(latest_checkpoint(tmp_path))["step"] == 10


def test_replacing_is_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file.txt"
    write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_text("ne")
        assert path.read_text() == "old"
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert temporary.parent == path.parent  # a rename across file systems would not be atomic
    assert path.read_text() == "new"
    assert [file.name for file in path.parent.iterdir()] == ["file.txt"]


def test_a_checkpoint_is_on_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("rename"), replace(a, b))[1])
    path = save_checkpoint(tmp_path, STATE, step=1)
    assert calls == [str(path.with_name(f".{path.name}.{os.getpid()}.tmp")), "rename", str(tmp_path)]


# -- damage ------------------------------------------------------------------------------------------------------------


def _assert_refused(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "step-000000001.pt"
        path.write_bytes(content)
        with warnings.catch_warnings(), pytest.raises(CheckpointError) as caught:
            warnings.simplefilter("ignore")
            load_checkpoint(path)
        message = str(caught.value)
        assert str(path) in message and "\n" not in message and "delete it" in message


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_truncated_checkpoint_is_refused(data: st.DataObject) -> None:
    whole = _file()
    _assert_refused(whole[: data.draw(st.integers(0, len(whole) - 1))])


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.binary(max_size=60).map(lambda tail: b"\x80\x02" + tail)))
def test_random_bytes_are_refused(content: bytes) -> None:
    _assert_refused(content)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_changed_bytes_never_end_in_another_error(data: st.DataObject) -> None:
    """Padding may change without harm, and the old format has no checksums: what loads, loads."""
    content = bytearray(_file(legacy=data.draw(st.booleans())))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "step-000000001.pt"
        path.write_bytes(bytes(content))
        with contextlib.suppress(CheckpointError):
            load_checkpoint(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x80\x02b.", b"\x80\x02a.", b"\x80\x02X\x01.", b"\x80\x02}u."],
    ids=["empty", "empty stack", "append to nothing", "short length", "no mark"],
)
def test_broken_pickles_are_refused(content: bytes) -> None:
    _assert_refused(content)


class Evil:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.trace}",)


@pytest.mark.parametrize("how", ["pickle", "torch.save"])
def test_code_in_a_checkpoint_does_not_run(tmp_path: Path, how: str) -> None:
    trace, path = tmp_path / "trace", tmp_path / "step-000000001.pt"
    if how == "pickle":
        path.write_bytes(pickle.dumps({"format": 2, "evil": Evil(trace)}))
    else:
        torch.save({"format": 2, "evil": Evil(trace)}, path)
    torch.load(path, weights_only=False) if how == "torch.save" else pickle.loads(path.read_bytes())
    assert trace.exists()  # the bait works
    trace.unlink()
    _assert_refused(path.read_bytes())
    assert not trace.exists()


@pytest.mark.parametrize(
    "state", [{"format": 1}, {}, [1, 2], torch.ones(3)], ids=["format 1", "none", "list", "tensor"]
)
def test_other_formats_are_refused(tmp_path: Path, state: Any) -> None:
    path = tmp_path / "step-000000001.pt"
    torch.save(state, path)
    with pytest.raises(CheckpointError, match="format 2"):
        load_checkpoint(path)


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*step-7\.pt"):
        load_checkpoint(tmp_path / "step-7.pt")


def test_a_checkpoint_of_the_engine_needs_no_code(tmp_path: Path, rows: Tensor) -> None:
    """Tensors, numbers, strings, lists and dicts only."""

    def check(value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                assert isinstance(key, str | int)
                check(inner)
        elif isinstance(value, list | tuple):
            for inner in value:
                check(inner)
        else:
            assert value is None or type(value) in (Tensor, int, float, str, bool), type(value)

    engine = Engine(cf.energies.MLP(dim=2, width=4), cf.losses.EnergyDiscrepancy(), checkpoints=tmp_path)
    engine.fit(cf.batches(rows, size=16), steps=3)
    check(load_checkpoint(latest_checkpoint(tmp_path)))


# -- folders with the checkpoints of another run -----------------------------------------------------------------------


def test_a_fresh_run_does_not_mix_with_a_later_one(tmp_path: Path, rows: Tensor) -> None:
    """Its first checkpoints would be older than the ones there, and dropped at once."""

    def engine() -> Engine:
        loss = cf.losses.EnergyDiscrepancy()
        return Engine(cf.energies.MLP(dim=2, width=4), loss, checkpoints=tmp_path, checkpoint_every=5)

    engine().fit(cf.batches(rows, size=16), steps=20)
    names = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"step 20.*; resume .*another folder"):
        engine().fit(cf.batches(rows, size=16), steps=20)
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    resumed = engine()
    resumed.resume(latest_checkpoint(tmp_path))
    assert resumed.fit(cf.batches(rows, size=16), steps=30).steps == 30


def test_the_checkpoint_just_written_is_never_dropped(tmp_path: Path) -> None:
    for step in (100, 200, 5):
        assert save_checkpoint(tmp_path, STATE, step=step, keep=1).exists()


# -- weights -----------------------------------------------------------------------------------------------------------


def test_weights_come_back_bitwise(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1, bias=False))
    save_weights(tmp_path / "model.safetensors", module)
    other = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1, bias=False))
    load_weights(tmp_path / "model.safetensors", other)
    for name, value in module.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def test_weights_that_do_not_load_are_explained(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(CheckpointError, match=r"no weights at .*model\.safetensors; train"):
        load_weights(path, nn.Linear(2, 3))
    save_weights(path, nn.Linear(2, 3))
    for other, reason in [(nn.Linear(2, 4), "size mismatch"), (nn.Linear(2, 3, bias=False), "bias")]:
        with pytest.raises(CheckpointError, match=reason) as caught:
            load_weights(path, other)
        assert "\n" not in str(caught.value)
    for content in (b"", path.read_bytes()[:20], path.read_bytes()[:-1], b"garbage" * 10):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="damaged") as caught:
            load_weights(path, nn.Linear(2, 3))
        assert "\n" not in str(caught.value)
