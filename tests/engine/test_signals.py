"""SIGINT, SIGTERM and SIGKILL: nothing is lost, nothing changes."""

from __future__ import annotations

import importlib.util
import random
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import chainfree as cf
from chainfree.engine import Callback, CheckpointError, Engine, FitReport, latest_checkpoint, load_checkpoint

_SCRIPT = '''
"""Train in a folder, from its latest checkpoint if there is one; options: steps, checkpoint_every, seconds a step, what."""
import sys
import time
from pathlib import Path

import torch
import chainfree as cf
from chainfree.engine import Callback, CheckpointError, Engine, latest_checkpoint


class Slow(Callback):
    def __init__(self, seconds):
        self.seconds = seconds

    def on_step(self, engine):
        time.sleep(self.seconds)


def latent_prior():
    decoder = cf.generators.MLPGenerator(2, 2, width=8)
    encoder = cf.latent.GaussianEncoder(cf.energies.MLP(2, width=8, outputs=4), 2)
    posterior = cf.latent.RevisedPosterior(encoder=encoder, steps=2)
    return cf.objectives.LatentPrior(decoder, posterior, cf.losses.EnergyDiscrepancy())


def train(folder, steps, checkpoint_every, seconds, what):
    torch.manual_seed(0)
    energy = cf.energies.MLP(dim=2, width=8, depth=2)
    objective = latent_prior() if what == "latents" else cf.losses.EnergyDiscrepancy()
    engine = Engine(
        energy, objective, seed=3, clip=1.0, ema=0.9, callbacks=[Slow(seconds)],
        checkpoints=folder / "checkpoints", checkpoint_every=checkpoint_every,
    )
    try:
        engine.resume(latest_checkpoint(folder / "checkpoints"))
    except CheckpointError as error:
        assert "no checkpoint in" in str(error), error
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(1))
    report = engine.fit(cf.batches(x, size=16), steps=steps)
    weights = [p.detach() for p in energy.parameters()] + list(engine.averaged_energy().parameters())
    torch.save({"weights": [w.data for w in weights], "steps": report.steps, "stopped": report.stopped}, folder / "out.pt")


if __name__ == "__main__":
    train(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), sys.argv[5])
'''


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "train.py"
    path.write_text(_SCRIPT)
    return path


def _uninterrupted(script: Path, folder: Path, steps: int, what: str = "rows") -> list[Tensor]:
    spec = importlib.util.spec_from_file_location("train", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder.mkdir()
    module.train(folder, steps, 10_000, 0.0, what)
    weights: list[Tensor] = torch.load(folder / "out.pt")["weights"]
    return weights


def _checkpoints(folder: Path) -> list[Path]:
    return sorted((folder / "checkpoints").glob("step-*.pt"))


# -- asked to stop -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_training_with_a_checkpoint(
    number: signal.Signals, script: Path, tmp_path: Path, launch: Callable[..., Any]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    child = launch(script, run, 60, 10, 0.02, "rows")
    child.until(lambda: bool(_checkpoints(run)))
    child.send(number)
    assert child.wait() == 0, child.log.read_text()  # it ended by itself
    out = torch.load(run / "out.pt")
    assert out["stopped"] == "interrupted" and 10 <= out["steps"] < 60
    assert load_checkpoint(latest_checkpoint(run / "checkpoints"))["step"] == out["steps"]

    child = launch(script, run, 60, 10, 0.0, "rows")
    assert child.wait() == 0, child.log.read_text()
    out = torch.load(run / "out.pt")
    assert (out["stopped"], out["steps"]) == ("completed", 60)
    expected = _uninterrupted(script, tmp_path / "straight", 60)
    assert all(torch.equal(a, b) for a, b in zip(out["weights"], expected, strict=True))


def test_a_second_signal_does_not_wait(script: Path, tmp_path: Path, launch: Callable[..., Any]) -> None:
    run = tmp_path / "run"
    run.mkdir()
    child = launch(script, run, 60, 1, 30.0, "rows")  # a step takes half a minute
    child.until(lambda: _catches(child.pid, signal.SIGTERM))
    child.send(signal.SIGTERM)
    child.until(lambda: not _catches(child.pid, signal.SIGTERM))
    child.send(signal.SIGTERM)
    assert child.wait() == -signal.SIGTERM
    assert not (run / "out.pt").exists()


def _catches(pid: int, number: signal.Signals) -> bool:
    """Whether the process has a handler of its own for the signal."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    mask = next(int(line.split()[1], 16) for line in lines if line.startswith("SigCgt"))
    return bool(mask >> (number - 1) & 1)


# -- in this process ---------------------------------------------------------------------------------------------------


class Kick(Callback):
    """Send signals to this process after a step."""

    def __init__(self, step: int, *numbers: signal.Signals) -> None:
        self.step, self.numbers = step, numbers
        self.events: list[tuple[str, str]] = []
        self.stopped = ""

    def on_step(self, engine: Engine) -> None:
        if engine.step == self.step:
            for number in self.numbers:
                # to this very thread: by kill() another thread may take one late, and two at once count as one
                signal.raise_signal(number)

    def on_event(self, engine: Engine, kind: str, message: str) -> None:
        self.events.append((kind, message))

    def on_end(self, engine: Engine, stopped: str) -> None:
        self.stopped = stopped


def _engine(callback: Callback, folder: Path | None = None) -> Engine:
    torch.manual_seed(0)
    energy = cf.energies.MLP(dim=2, width=8, depth=2)
    return Engine(energy, cf.losses.EnergyDiscrepancy(), callbacks=[callback], checkpoints=folder)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_step_is_finished_and_the_handlers_are_given_back(
    number: signal.Signals, rows: Tensor, tmp_path: Path
) -> None:
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    kick = Kick(7, number)
    engine = _engine(kick, tmp_path)
    data = cf.batches(rows, size=16)
    report = engine.fit(data, steps=30)
    assert report.stopped == kick.stopped == "interrupted" and report.steps == 7
    assert engine.interrupted_by == number.name
    assert kick.events == [(number.name, "stopped after step 7")]
    assert load_checkpoint(latest_checkpoint(tmp_path))["step"] == 7  # also of a signal that came in a callback
    assert {n: signal.getsignal(n) for n in before} == before
    assert engine.fit(data, steps=30).stopped == "completed"  # the request is spent


def test_a_second_sigint_interrupts_at_once(rows: Tensor, request: pytest.FixtureRequest) -> None:
    # a shell starts its background jobs with SIGINT ignored, and Python leaves that as it finds it
    found = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, found))
    before = signal.default_int_handler
    kick = Kick(7, signal.SIGINT, signal.SIGINT)
    engine = _engine(kick)
    with pytest.raises(KeyboardInterrupt):
        engine.fit(cf.batches(rows, size=16), steps=30)
    assert engine.step == 7 and kick.stopped not in ("", "completed")
    assert signal.getsignal(signal.SIGINT) is before


def test_handlers_are_given_back_after_an_error(rows: Tensor) -> None:
    class Broken(Callback):
        def on_step(self, engine: Engine) -> None:
            raise OSError("disk")

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(OSError, match="disk"):
        _engine(Broken()).fit(cf.batches(rows, size=16), steps=3)
    assert signal.getsignal(signal.SIGTERM) is before


def test_fit_works_in_another_thread(rows: Tensor) -> None:
    reports: list[FitReport] = []
    engine = _engine(Kick(0))
    thread = threading.Thread(target=lambda: reports.append(engine.fit(cf.batches(rows, size=16), steps=5)))
    thread.start()
    thread.join(30)
    assert [report.stopped for report in reports] == ["completed"]


# -- killed ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["rows", "latents"])
def test_kills_at_random_moments_change_nothing(
    what: str, script: Path, tmp_path: Path, launch: Callable[..., Any]
) -> None:
    """With a checkpoint every step, most kills fall into the writing of one."""
    run, rng, steps = tmp_path / "run", random.Random(0), 150
    run.mkdir()
    reached = 0
    for kill in range(3):
        child = launch(script, run, steps, 1, 0.002, what)
        wanted = 30 * (kill + 1)
        child.until(lambda wanted=wanted: any(int(p.stem[5:]) >= wanted for p in _checkpoints(run)))
        threading.Event().wait(rng.uniform(0, 0.02))
        child.send(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL, "it ended before it was killed"
        state = load_checkpoint(latest_checkpoint(run / "checkpoints"))  # whole
        assert reached < state["step"] < steps
        reached = state["step"]
    # what a kill in mid-write leaves, for certain
    (run / "checkpoints" / f".step-{steps:09d}.pt.1.tmp").write_bytes(b"half a checkpoint")
    child = launch(script, run, steps, 50, 0.0, what)
    assert child.wait() == 0, child.log.read_text()
    out = torch.load(run / "out.pt")
    expected = _uninterrupted(script, tmp_path / "straight", steps, what)
    assert out["steps"] == steps
    assert all(torch.equal(a, b) for a, b in zip(out["weights"], expected, strict=True))


def test_a_kill_before_the_first_checkpoint_starts_anew(tmp_path: Path) -> None:
    (tmp_path / ".step-000000001.pt.77.tmp").write_bytes(b"half")
    with pytest.raises(CheckpointError, match="no checkpoint in"):
        latest_checkpoint(tmp_path)
