"""SIGKILLs on two trainings, one by energy discrepancy and one by VERA with three players."""

from __future__ import annotations

import dataclasses
import random
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.faults.program import program
from benchmarks.faults.settings import TRAINING
from chainfree.engine import (
    latest_checkpoint,
)


@dataclasses.dataclass(frozen=True)
class Game:
    """A training to be killed.

    Args:
        name: of the method.
        flags: beside ``TRAINING``.
        steps: of the training.
        when: the moments of its kills, but for the first.
        players: whose weights the last checkpoint must hold.
    """

    name: str
    flags: tuple[str, ...]
    steps: int
    when: tuple[str, ...]
    players: frozenset[str]

    @property
    def kills(self) -> int:
        """One in mid-training, and those of ``when``."""
        return 1 + len(self.when)


ED = Game("ed", (), 8000, ("start",) * 5 + ("write",) * 4 + ("train",) * 10, frozenset({"energy"}))
VERA = Game(
    "vera",
    ("--method", "vera", "--vera.entropy", "paper", "--vera.width", "16", "--vera.depth", "1", "--vera.samples", "32"),
    1500,
    ("start", "write", "train", "train", "train"),
    frozenset({"energy", "posterior", "generator"}),
)


def _latest(run: Path) -> int:
    """The step of the newest checkpoint, 0 without one."""
    return max((int(path.stem.removeprefix("step-")) for path in run.glob("checkpoints/step-*.pt")), default=0)


def _wait(process: subprocess.Popen[str], holds: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while process.poll() is None and not holds() and time.monotonic() < end:
        time.sleep(0.0005)


def killed(folder: Path, rng: random.Random, game: Game) -> dict[str, Any]:
    """Kill one training again and again, and compare how it ends."""
    start = ("train", "--data", "rows.npy", *TRAINING, "--steps", str(game.steps), *game.flags, "--out", "runs")
    whole, run = folder / "runs" / f"{game.name}_whole", folder / "runs" / f"{game.name}_killed"
    began = time.monotonic()
    process = program(*start, "--name", whole.name, folder=folder)
    _wait(process, lambda: _latest(whole) > 0)
    starting = time.monotonic() - began
    _, err = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"the training that was left alone ended with {process.returncode}: {err}")
    training = time.monotonic() - began - starting
    # the first kill finds a run to go on with; the others come in any order
    when = ["train", *rng.sample(game.when, k=len(game.when))]
    arguments: tuple[str, ...] = (*start, "--name", run.name)
    survived, history = 0, []
    for moment in when:
        before = _latest(run)
        process = program(*arguments, folder=folder)
        if moment == "start":
            time.sleep(rng.uniform(0.05, 0.95) * starting)
        else:
            _wait(process, lambda before=before: _latest(run) > before)
            # so that they all fall within the training
            time.sleep(rng.uniform(0.0, 0.8 / len(when)) * training)
        if moment == "write":
            _wait(process, lambda: any(run.glob("checkpoints/.step-*.tmp")))
        process.send_signal(signal.SIGKILL)
        _, err = process.communicate()
        if process.returncode != -signal.SIGKILL:  # it had ended of itself, well or not
            history.append({"when": moment, "ended": process.returncode, "says": err.splitlines()[-1:]})
            break
        unfinished = len(list(run.glob("checkpoints/.step-*.tmp")))
        history.append({"when": moment, "from": before, "latest": _latest(run), "unfinished_files": unfinished})
        survived += 1
        arguments = ("train", "--resume", f"runs/{run.name}")
    process = program(*arguments, folder=folder)
    _, err = process.communicate()
    equal = process.returncode == 0 and _equal_weights(whole, run, game)
    return {
        "kills": game.kills,
        "survived": survived if equal else 0,
        "bitwise_equal": equal,
        "metrics_equal": (whole / "metrics.jsonl").read_bytes() == (run / "metrics.jsonl").read_bytes(),
        "history": history,
        "steps": game.steps,
        "players": sorted(game.players),
    }


def _equal_weights(whole: Path, run: Path, game: Game) -> bool:
    """The saved weights byte for byte; of the last checkpoints all players' weights, moments and averages bit for bit."""
    files = ["model.safetensors", *(["generator.safetensors"] if "generator" in game.players else [])]
    for file in files:
        if not ((whole / file).is_file() and (run / file).is_file()):
            return False
        if (whole / file).read_bytes() != (run / file).read_bytes():
            return False
    one, other = (torch.load(latest_checkpoint(r / "checkpoints"), weights_only=True) for r in (whole, run))
    if set(one["players"]["optimizers"]) != game.players:
        return False
    return all(_equal(one[part], other[part]) for part in ("step", "modules", "players", "generator", "data"))


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)


def kills(folder: Path, rng: random.Random) -> dict[str, Any]:
    """Kill both trainings; the counts are of all kills, ``_vera`` of those that hit VERA."""
    ed, vera = (killed(folder, rng, game) for game in (ED, VERA))
    return {
        "kills": ed["kills"] + vera["kills"],
        "kills_survived": ed["survived"] + vera["survived"],
        "bitwise_equal": ed["bitwise_equal"] and vera["bitwise_equal"],
        "metrics_equal": ed["metrics_equal"] and vera["metrics_equal"],
        "kills_vera": vera["kills"],
        "kills_vera_survived": vera["survived"],
        "players_vera": vera["players"],
        "kill_history": ed["history"],
        "kill_history_vera": vera["history"],
        "steps": ed["steps"],
        "steps_vera": vera["steps"],
    }
