"""Interrupted runs go on as if nothing had happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from chainfree.cli.run_folder import RunFolder
from chainfree.engine import Engine

VERA = ("--method", "vera", "--vera.width", "8", "--vera.depth", "1", "--vera.samples", "16")
PAPER = (*VERA, "--vera.entropy", "paper", "--vera.weighted", "false")
STEPS = ("--steps", "40", "--checkpoint_every", "7", "--log_every", "5", "--evaluate_every", "10", "--patience", "50")


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def _start(chainfree: Callable[..., Any], tiny: tuple[str, ...], name: str, *more: str) -> Any:
    return chainfree("train", "--data", "rows.csv", *tiny, *STEPS, "--name", name, *more)


@pytest.mark.usefixtures("csv", "no_pictures")
@pytest.mark.parametrize(("method", "killed_after"), [((), 3), ((), 7), ((), 26), (VERA, 3), (VERA, 26), (PAPER, 26)])
def test_a_killed_run_ends_in_the_same_bytes(
    method: tuple[str, ...],
    killed_after: int,
    chainfree: Callable[..., Any],
    tiny: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert _start(chainfree, tiny, "whole", *method).status == 0
    with monkeypatch.context() as patch:
        go_on = Engine._call_back

        def kill(self: Engine, steps: int) -> None:
            go_on(self, steps)
            if self.step == killed_after:
                raise Killed

        patch.setattr(Engine, "_call_back", kill)
        with pytest.raises(Killed):
            _start(chainfree, tiny, "killed", *method)
    assert not Path("runs/killed/model.safetensors").exists()
    # before the first checkpoint a run begins anew, after it it goes on
    first = (killed_after - 1) // 7 * 7  # the callbacks come before the save
    assert [p.name for p in sorted(Path("runs/killed").glob("checkpoints/*"))][-1:] == (
        [f"step-{first:09d}.pt"] if first else []
    )
    ended = chainfree("train", "--resume", "runs/killed")
    assert ended.status == 0, ended.err
    _require_equal_ends("killed", "whole", vera=bool(method))


def _require_equal_ends(name: str, other: str, *, vera: bool) -> None:
    """Files byte for byte, and in the last checkpoint every player's weights, moments and averages, bit for bit."""
    files = ["model.safetensors", "metrics.jsonl", *(["generator.safetensors"] if vera else [])]
    for file in files:
        assert Path("runs", name, file).read_bytes() == Path("runs", other, file).read_bytes(), file
    mine, theirs = (
        torch.load(sorted(Path("runs", run, "checkpoints").iterdir())[-1], weights_only=True) for run in (name, other)
    )
    assert ("objective" in mine["modules"]) == vera
    for part in ("step", "modules", "players", "generator", "data"):
        _require_same(mine[part], theirs[part], part)


def _require_same(mine: Any, theirs: Any, where: str) -> None:
    if isinstance(mine, torch.Tensor):
        assert torch.equal(mine, theirs), where
    elif isinstance(mine, dict):
        assert mine.keys() == theirs.keys(), where
        for key, value in mine.items():
            _require_same(value, theirs[key], f"{where}.{key}")
    elif isinstance(mine, list):
        assert len(mine) == len(theirs), where
        for number, (one, other) in enumerate(zip(mine, theirs, strict=True)):
            _require_same(one, other, f"{where}[{number}]")
    else:
        assert mine == theirs, where


def test_a_finished_run_goes_on_with_more_steps(
    chainfree: Callable[..., Any], tiny: tuple[str, ...], csv: Path, no_pictures: None
) -> None:
    constant = ("--schedule.kind", "constant")  # a cosine knows how many steps there will be
    assert _start(chainfree, tiny, "whole", *constant).status == 0
    assert _start(chainfree, tiny, "short", *constant, "--steps", "20").status == 0
    ended = chainfree("train", "--resume=runs/short", "--steps", "40")
    assert ended.status == 0, ended.err
    assert "\n20 steps in" in ended.out  # of this call
    # the run keeps its new length, so the next one need not be told, and must not ask for less
    assert RunFolder.open("runs/short").settings().steps == 40
    assert "is at step 40 already" in chainfree("train", "--resume", "runs/short", "--steps", "39").refused()
    assert Path("runs/short/model.safetensors").read_bytes() == Path("runs/whole/model.safetensors").read_bytes()


def test_resuming_a_run_that_is_done_changes_nothing(chainfree: Callable[..., Any], trained: Path) -> None:
    before = (trained / "model.safetensors").read_bytes()
    ended = chainfree("train", "--resume", str(trained))
    assert ended.status == 0, ended.err
    assert (trained / "model.safetensors").read_bytes() == before


def test_what_does_not_go_on_is_refused(chainfree: Callable[..., Any], trained: Path) -> None:
    assert "--resume needs the folder" in chainfree("train", "--resume").refused()
    assert "no run folder" in chainfree("train", "--resume", "nowhere").refused()
    assert "keeps its settings" in chainfree("train", "--resume", str(trained), "--seed", "3").refused()
    assert "keeps its settings" in chainfree("train", "rows.csv", "--resume", str(trained)).refused()
    assert "unknown setting" in chainfree("train", "--resume", str(trained), "extra").refused()
    # another network
    config = (trained / "config.toml").read_text()
    (trained / "config.toml").write_text(config.replace("width = 8", "width = 9"))
    assert "does not fit the network" in chainfree("train", "--resume", str(trained)).refused()
    (trained / "config.toml").write_text(config)
    # other data
    whole = Path("rows.csv").read_text()
    lines = whole.splitlines()
    for other in (lines[:-5], [*lines[:-1], "1,2,3"], [lines[0], *[f"{line}1" for line in lines[1:]]]):
        Path("rows.csv").write_text("\n".join(other))
        assert "have changed since it began" in chainfree("train", "--resume", str(trained)).refused()
    Path("rows.csv").write_text(whole)
    # a damaged checkpoint, then none
    (checkpoint,) = (trained / "checkpoints").iterdir()
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    assert "is damaged" in chainfree("train", "--resume", str(trained)).refused()
    checkpoint.unlink()
    assert "no checkpoint" in chainfree("train", "--resume", str(trained)).refused()
    assert (trained / "model.safetensors").is_file()


def _program(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "chainfree", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_sigterm_ends_with_143_and_says_how_to_go_on(
    chainfree: Callable[..., Any], tiny: tuple[str, ...], csv: Path, no_pictures: None
) -> None:
    """In a process of its own, which is also the smoke test of ``python -m chainfree``."""
    steps = ("--steps", "4000", "--checkpoint_every", "100000", "--log_every", "10", "--schedule.kind", "constant")
    process = _program("train", "--data", "rows.csv", *tiny, *steps, "--name", "stopped")
    metrics, end = Path("runs/stopped/metrics.jsonl"), time.monotonic() + 60
    while not (metrics.exists() and metrics.stat().st_size):
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert "Traceback" not in err
    assert "go on with: chainfree train --resume runs/stopped" in out
    assert "held-out" not in out
    (checkpoint,) = Path("runs/stopped/checkpoints").iterdir()
    step = int(checkpoint.stem.removeprefix("step-"))
    assert 10 <= step < 4000
    total = str(step + 20)
    assert chainfree("train", "--resume", "runs/stopped", "--steps", total).status == 0
    assert chainfree("train", "--data", "rows.csv", *tiny, *steps, "--steps", total, "--name", "whole").status == 0
    assert Path("runs/stopped/model.safetensors").read_bytes() == Path("runs/whole/model.safetensors").read_bytes()


@pytest.mark.usefixtures("csv", "no_pictures")
@pytest.mark.parametrize(("method", "length"), [((), 1000), (PAPER, 200)], ids=["ed", "vera"])
def test_sigkill_changes_nothing(
    method: tuple[str, ...], length: int, chainfree: Callable[..., Any], tiny: tuple[str, ...]
) -> None:
    """Killed by the system at a moment of its own; the posterior of the paper's VERA is a third player."""
    steps = ("--steps", str(length), "--checkpoint_every", "20", "--log_every", "50", "--evaluate_every", "100")
    arguments = ("train", "--data", "rows.csv", *tiny, *steps, *method)
    process = _program(*arguments, "--name", "killed")
    checkpoints, end = Path("runs/killed/checkpoints"), time.monotonic() + 60
    while not list(checkpoints.glob("step-*.pt")):
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.005)
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert not Path("runs/killed/model.safetensors").exists()
    assert chainfree("train", "--resume", "runs/killed").status == 0
    assert chainfree(*arguments, "--name", "whole").status == 0
    if method:
        (last,) = sorted(checkpoints.iterdir())[-1:]
        state = torch.load(last, weights_only=True)
        assert set(state["players"]["optimizers"]) == {"energy", "posterior", "generator"}
        assert "entropy.log_scale" in state["modules"]["objective"]
    _require_equal_ends("killed", "whole", vera=bool(method))
