"""What the program makes of kills, bad input and divergence.

Twenty SIGKILLs fall on two trainings, one by energy discrepancy and one by VERA with three players, some while they start
and some while they write a checkpoint; each time the training is taken up with ``chainfree train --resume``, and the weights
at the end are compared byte for byte with those of a training that was left alone. Then a fixed list of bad inputs, generated
from a seed, is given to the program and to the library; each must be refused as documented. Last, three ways of diverging.
Every resume imports the sources anew: leave them alone meanwhile.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from pyarrow import parquet
from torch import Tensor, nn

from benchmarks.common import RESULTS, one_thread
from chainfree.batches import SampledBatches, batches
from chainfree.checks import energy_values
from chainfree.cli import main as chainfree_main
from chainfree.cli.settings import TrainSettings
from chainfree.datasets import Table, toy_density
from chainfree.energies import MLP, ConvNet, FourierMLP, Gaussian, GaussianMixture, Ring
from chainfree.engine import (
    Callback,
    Constant,
    Engine,
    Guard,
    OptimizerSettings,
    TrainingDivergedError,
    latest_checkpoint,
)
from chainfree.experiments import Recorder
from chainfree.losses import EnergyDiscrepancy
from chainfree.perturbations import Gaussian as GaussianNoise
from chainfree.perturbations import LogUniform, MeanPool
from chainfree.typing import Batch

SEED = 20230706
NETWORK = ("--network.width", "16", "--network.depth", "1", "--threads", "1")
TRAINING = ("--batch", "32", "--checkpoint_every", "20", "--evaluate_every", "500", *NETWORK)
TINY = ("--steps", "2", "--batch", "8", "--network.width", "4", "--network.depth", "1", "--threads", "1")


# -- kills ---------------------------------------------------------------------------------------------------------------


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


def _program(*arguments: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "chainfree", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
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
    process = _program(*start, "--name", whole.name, folder=folder)
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
        process = _program(*arguments, folder=folder)
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
    process = _program(*arguments, folder=folder)
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


# -- bad input -----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Case:
    """One bad input: ``refuse`` returns what was wrong with the refusal, or ``None``."""

    name: str
    refuse: Callable[[], str | None]


def _judged(status: int, out: str, err: str) -> str | None:
    lines = err.splitlines()
    if "Traceback" in err:
        return "a traceback"
    if status != 2:
        return f"exit status {status}: {lines[-1:]}"
    if len(lines) != 1 or not lines[0].startswith("chainfree: "):
        return f"{len(lines)} lines on standard error"
    return "something on standard output" if out else None


def _in_process(*arguments: str) -> str | None:
    out, err = io.StringIO(), io.StringIO()
    before = set(Path("runs").glob("*"))
    try:
        # as in a process of its own: a warning is a line on standard error
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
            warnings.resetwarnings()
            warnings.simplefilter("ignore", DeprecationWarning)
            status = chainfree_main(list(arguments))
    except BaseException as error:
        return f"{type(error).__name__} left main"
    if set(Path("runs").glob("*")) != before:
        return "a run folder was left behind"
    return _judged(status, out.getvalue(), err.getvalue())


def _in_a_process(*arguments: str) -> str | None:
    process = _program(*arguments, folder=Path.cwd())
    out, err = process.communicate()
    return _judged(process.returncode, out, err)


def _in_library(make: Callable[[], Any]) -> str | None:
    try:
        value = make()
    except (ValueError, TypeError) as error:
        return None if str(error) else "an error without a message"
    except TrainingDivergedError:
        return None
    except Exception as error:
        return f"{type(error).__name__} rather than ValueError or TypeError: {str(error).splitlines()[0]}"
    return f"accepted, and gave {type(value).__name__}"


_BAD_FLAGS: dict[str, tuple[str, ...]] = {
    "--anomaly": ("3", "-1", "x"),
    "--held_out": ("0", "1", "-0.5", "nan", "x"),
    "--scaling": ("log", "1", ""),
    "--network": ("mlp", "3", "none.toml"),
    "--network.kind": ("conv", "resnet", "transformer"),
    "--network.width": ("0", "-3", "1.5", "wide"),
    "--network.depth": ("0", "-1", "deep"),
    "--network.activation": ("swish", "3"),
    "--network.spectral_norm": ("2", "maybe"),
    "--base": ("gaussian", "[]"),
    "--base.kind": ("uniform", "0"),
    "--base.components": ("0", "-2", "2.5"),
    "--base.regularisation": ("-1", "inf", "small"),
    "--loss.perturbation": ("laplace", "ou", "mean_pool"),
    "--loss.t": ("0", "-1", "nan", "inf", "[1]", "[2,1]", "[0,1]", "[1,2,3]", "wide"),
    "--loss.draws": ("0", "-4", "2.5", "many"),
    "--loss.w": ("-1", "nan", "inf", "one"),
    "--loss.chunk": ("0", "-1", "1.5"),
    "--method": ("gan", "1", ""),
    "--vera": ("bank", "3"),
    "--vera.samples": ("16", "0", "-1", "many"),
    "--vera.latent": ("-1", "1.5"),
    "--vera.entropy": ("none", "3"),
    "--vera.weighted": ("maybe", "2"),
    "--vera.share": ("0", "-1", "nan"),
    "--optimizer.lr": ("0", "-1", "nan", "inf", "fast"),
    "--optimizer.betas": ("0.9", "[0.9]", "[0.9,1]", "[-1,0.9]", "[a,b]"),
    "--optimizer.eps": ("0", "-1", "nan"),
    "--optimizer.weight_decay": ("-1", "inf"),
    "--schedule.kind": ("linear", "2"),
    "--schedule.warmup": ("-1", "1.5", "slow"),
    "--steps": ("0", "-1", "1.5", "1e3", "ten", "1" + 400 * "0"),
    "--batch": ("0", "-8", "1.5", "1000", "all"),
    "--seed": ("-1", "0.5", str(2**63), "x"),
    "--clip": ("0", "-1", "nan", "inf"),
    "--ema": ("1", "-0.1", "nan", "x"),
    "--precision": ("fp16", "32"),
    "--accumulate": ("0", "1.5"),
    "--compile": ("maybe", "3"),
    "--device": ("gpu", "meta", "cpu:x", ""),
    "--threads": ("0", "-1", "100000", "all"),
    "--guard.limit": ("0", "-1", "nan"),
    "--guard.every": ("0", "1.5"),
    "--guard.tries": ("0", "-1"),
    "--guard.backoff": ("0", "1", "2"),
    "--patience": ("0", "-1", "x"),
    "--evaluate_every": ("0", "x"),
    "--log_every": ("0", "-1"),
    "--checkpoint_every": ("0", "1.5"),
    "--tensorboard": ("maybe",),
    "--name": ("", "..", "a/b", "a\0b", "\udcff"),
    "--out": ("/dev/null/x", "rows.npy"),
    "--key": ("x",),
    "--drop": ("nothing", "x0,x1,x2"),
    "--config": ("none.toml", "."),
    "--resume": ("nowhere",),
    "--lr": ("1",),
    "--stepps": ("1",),
}

_WORDS: tuple[tuple[str, ...], ...] = (
    (),
    ("trian",),
    ("--data", "rows.npy"),
    ("train",),
    ("train", "--data"),
    ("train", "--data", ""),
    ("train", "none.toml"),
    ("train", "--resume"),
    ("train", "--data", "toy:moonz"),
    ("train", "--data", "toy:"),
    ("train", "--data", "digits"),
    ("train", "--data", "digits", "--anomaly", "10"),
    ("train", "--data", "digits:3", "--anomaly", "3"),
    ("train", "--data", "toy:moons", "--drop", "x"),
    ("train", "--data", "toy:moons", "--batch", "1000000000000"),
    ("evaluate",),
    ("evaluate", "nowhere"),
    ("evaluate", "a", "b"),
    ("evaluate", "--key", "x"),
    ("score", "nowhere", "rows.npy", "--out", "e.csv"),
    ("score", "nowhere"),
    ("train", "--data", "rows.npy", *TINY, "--method", "vera", "--vera.samples", "0"),
    ("train", "--data", "rows.npy", *TINY, "--method", "vera", "--vera.covering", "-1"),
    ("train", "--data", "rows.npy", *TINY, "--method", "vera", "--vera.gradient_penalty", "nan"),
    ("sample", "nowhere", "--out", "new.csv"),
    ("sample", "good", "--out", "new.csv"),
    ("sample", "good"),
    ("plot", "."),
    ("recipes", "nothing"),
    ("recipes", "--threads", "x"),
    ("recipes", "ed_nearsightedness", "--threads", "0"),
    ("doctor", "now"),
)


def _flag_cases() -> Iterator[Case]:
    for flag, values in _BAD_FLAGS.items():
        for value in values:
            arguments = ("train", "--data", "rows.npy", *TINY, flag, value)
            yield Case(f"{flag} {value[:20]!r}", lambda a=arguments: _in_process(*a))
    for words in _WORDS:
        yield Case(" ".join(words) or "no word", lambda a=words: _in_process(*a))


def _of_process_cases(rng: random.Random) -> Iterator[Case]:
    """Some of the above in a process of their own: nothing of it may depend on how it is called."""
    flags = [(f, v) for f, values in _BAD_FLAGS.items() for v in values if "\0" not in v and v.isprintable()]
    for flag, value in rng.sample(flags, k=8):
        arguments = ("train", "--data", "rows.npy", *TINY, flag, value)
        yield Case(f"process: {flag} {value!r}", lambda a=arguments: _in_a_process(*a))
    for words in rng.sample(_WORDS, k=2):
        yield Case(f"process: {' '.join(words)}", lambda a=words: _in_a_process(*a))


def _config_cases(rng: random.Random) -> Iterator[Case]:
    texts = {
        "cut off": "steps = ",
        "twice": "steps = 1\nsteps = 2",
        "deep": "a = " + 5000 * "[",
        "a colon": "steps: 3",
        "an open text": 'name = "a',
        "an unknown key": "stepps = 3",
        "an unknown table": "[netwrk]\nwidth = 3",
        "itself": "config = 'config.toml'",
        "a table of a number": "[steps]\na = 1",
        "a huge number": "seed = 1" + 400 * "0",
    }
    for entry in dataclasses.fields(TrainSettings):
        for name, value in (("a table", "{a = 1}"), ("a date", "1979-05-27"), ("a nest", "[[1], {b = 2}]")):
            texts[f"{entry.name} is {name}"] = f"{entry.name} = {value}"
    for name, text in texts.items():
        data = "" if text.startswith("data") else "data = 'rows.npy'\n"
        yield Case(f"config: {name}", lambda t=data + text: _with_config(t.encode()))
    for number in range(20):
        content = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 80))) + b"\xff"
        yield Case(f"config: random bytes {number}", lambda c=content: _with_config(c))


def _with_config(content: bytes) -> str | None:
    Path("config.toml").write_bytes(content)
    return _in_process("train", "config.toml", *TINY)


def _file_cases(rng: random.Random) -> Iterator[Case]:
    for ending in (".csv", ".csv.gz", ".parquet", ".npy", ".npz", ".txt", ".xlsx", ""):
        for number in range(3):
            content = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 200))) + b"\xff\x00"
            yield Case(f"random bytes {number} {ending}", lambda e=ending, c=content: _with_file(f"data{e}", c))
        yield Case(f"empty {ending}", lambda e=ending: _with_file(f"data{e}", b""))
    whole = _whole_files()
    for ending, content in whole.items():
        for _ in range(3):
            cut = content[: rng.randrange(1, len(content) - 1)]
            yield Case(f"{ending} cut at {len(cut)}", lambda e=ending, c=cut: _with_file(f"data{e}", c))
    good = "\n".join(f"{i},{i * i % 17}" for i in range(40))
    for name, text in {
        "no header": good,
        "ragged": "a,b\n" + good + "\n1,2,3",
        "text": "a,b\n" + good + "\n1,x",
        "missing": "a,b\n" + good + "\n1,",
        "NaN": "a,b\n" + good + "\n1,nan",
        "infinite": "a,b\n" + good + "\n1,inf",
        "too large": "a,b\n" + good + "\n1,1e31",
        "twice": "a,a\n" + good,
        "nameless": "a,\n" + good,
        "semicolons": "a;b\n" + good.replace(",", ";"),
        "few rows": "a,b\n1,2\n2,3",
        "no rows": "a,b\n",
        "constant": "a,b\n" + "1,2\n" * 40,
    }.items():
        yield Case(f"csv: {name}", lambda t=text: _with_file("data.csv", t.encode()))
    arrays = {
        "0-d": np.zeros(()),
        "1-d": np.zeros(40),
        "3-d": np.zeros((40, 2, 2)),
        "no rows": np.zeros((0, 3)),
        "no columns": np.zeros((40, 0)),
        "constant": np.ones((40, 2)),
        "complex": np.zeros((40, 2), dtype=complex),
        "text": np.full((40, 2), "a"),
        "dates": np.zeros((40, 2), dtype="M8[s]"),
        "records": np.zeros(40, dtype="f4,i4"),
        "objects": np.array([[1, {}]] * 40, dtype=object),
        "NaN": np.full((40, 2), np.nan),
        "infinite": np.full((40, 2), np.inf),
        "too large": np.arange(80.0).reshape(40, 2) * 1e30,
        "few rows": np.arange(10.0).reshape(5, 2),
    }
    for name, array in arrays.items():
        for ending in (".npy", ".npz"):
            yield Case(f"{ending}: {name}", lambda e=ending, a=array: _with_array(e, a))


def _whole_files() -> dict[str, bytes]:
    rows = np.random.default_rng(SEED).normal(size=(40, 3))
    text = "a,b,c\n" + "\n".join(",".join(map(str, row)) for row in rows)
    npy, npz, columns = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(npy, rows)
    np.savez(npz, x=rows)
    parquet.write_table(pa.table({name: rows[:, i] for i, name in enumerate("abc")}), columns)
    return {
        ".csv.gz": gzip.compress(text.encode(), mtime=0),
        ".npy": npy.getvalue(),
        ".npz": npz.getvalue(),
        ".parquet": columns.getvalue(),
    }


def _with_file(name: str, content: bytes) -> str | None:
    Path(name).write_bytes(content)
    return _in_process("train", "--data", name, *TINY)


def _with_array(ending: str, array: np.ndarray) -> str | None:
    if ending == ".npy":
        np.save("data.npy", array)
    else:
        np.savez("data.npz", array)
    return _in_process("train", "--data", f"data{ending}", *TINY)


def _run_cases(rng: random.Random) -> Iterator[Case]:
    """A trained run with one file spoilt, and rows that it cannot score."""
    spoils: list[tuple[str, bytes | None]] = [
        (name, content)
        for name in ("config.toml", "schema.json", "model.safetensors")
        for content in (None, b"", b"null\n", bytes(rng.randrange(256) for _ in range(60)) + b"\xff")
    ]
    # a config of nothing but a comment is one without data; the metrics are only drawn
    spoils += [("report/summary.json", b"[]"), ("report/summary.json", b"{"), ("metrics.jsonl", b"null\n")]
    for name, content in spoils:
        command = ("plot", "spoilt")
        yield Case(f"spoilt {name} {(content or b'')[:6]!r}", lambda n=name, c=content, a=command: _spoilt(n, c, a))
    for name, content in {
        "a column short": b"x0,x1\n1,2\n",
        "no number": b"x0,x1,x2\n1,2,x\n",
        "missing": b"x0,x1,x2\n1,2,\n",
        "too large": b"x0,x1,x2\n1,2,1e31\n",
        "far out": b"x0,x1,x2\n1,2,1e29\n",
        "empty": b"",
    }.items():
        yield Case(f"score: {name}", lambda c=content: _scored(c))


def _spoilt(name: str, content: bytes | None, arguments: tuple[str, ...]) -> str | None:
    shutil.rmtree("spoilt", ignore_errors=True)
    shutil.copytree("good", "spoilt")
    path = Path("spoilt", name)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    return _in_process(*arguments)


def _scored(content: bytes) -> str | None:
    Path("new.csv").write_bytes(content)
    problem = _in_process("score", "good", "new.csv", "--out", "energies.csv")
    return problem or ("scores were written" if Path("energies.csv").exists() else None)


def _library_cases() -> Iterator[Case]:
    nan, inf = float("nan"), float("inf")
    rows = torch.randn(16, 2, generator=torch.Generator().manual_seed(SEED))
    bad_rows: dict[str, Any] = {
        "0-d": torch.zeros(()),
        "1-d": torch.zeros(4),
        "no rows": torch.zeros(0, 2),
        "no columns": torch.zeros(4, 0),
        "complex": torch.zeros(4, 2, dtype=torch.complex64),
        "NaN": torch.full((4, 2), nan),
        "infinite": torch.full((4, 2), inf),
        "text": np.full((4, 2), "a"),
        "objects": np.array([[1, {}]] * 4, dtype=object),
        "dates": np.zeros((4, 2), dtype="M8[s]"),
        "a list": [[1.0, 2.0]],
        "nothing": None,
    }
    for name, x in bad_rows.items():
        yield Case(f"batches: {name}", lambda x=x: _in_library(lambda: batches(x, size=1)))
    for size in (0, -1, 17, 1.5, True, "4", None):
        yield Case(f"batches: size {size!r}", lambda s=size: _in_library(lambda: batches(rows, size=s)))
        if size != 17:
            yield Case(
                f"sampled: size {size!r}",
                lambda s=size: _in_library(lambda: SampledBatches(toy_density("moons"), size=s)),
            )
    for seed in (1.5, "1", None, True):
        yield Case(f"batches: seed {seed!r}", lambda s=seed: _in_library(lambda: batches(rows, size=4, seed=s)))
    for shape in ((), (15,), (16, 1)):
        yield Case(f"batches: y {shape}", lambda s=shape: _in_library(lambda: batches(rows, size=4, y=torch.zeros(s))))
    settings: dict[str, Callable[[], Any]] = {
        "draws 0": lambda: EnergyDiscrepancy(draws=0),
        "draws 1.5": lambda: EnergyDiscrepancy(draws=1.5),
        "w -1": lambda: EnergyDiscrepancy(w=-1.0),
        "w NaN": lambda: EnergyDiscrepancy(w=nan),
        "chunk 0": lambda: EnergyDiscrepancy(chunk=0),
        "t 0": lambda: GaussianNoise(t=0.0),
        "t NaN": lambda: GaussianNoise(t=nan),
        "t of text": lambda: GaussianNoise(t="wide"),
        "low above high": lambda: LogUniform(low=2.0, high=1.0),
        "window 1": lambda: MeanPool(window=1, t=1.0),
        "width 0": lambda: MLP(2, width=0),
        "dim 0": lambda: MLP(0),
        "activation": lambda: MLP(2, activation="swish"),
        "small image": lambda: ConvNet(size=4),
        "not positive definite": lambda: Gaussian(torch.zeros(2), -torch.eye(2)),
        "covariance of another shape": lambda: Gaussian(torch.zeros(2), torch.eye(3)),
        "negative weight": lambda: GaussianMixture(torch.zeros(2, 2), 1.0, [0.5, -0.5]),
        "clip 0": lambda: Engine(MLP(2), EnergyDiscrepancy(), clip=0.0),
        "ema 1": lambda: Engine(MLP(2), EnergyDiscrepancy(), ema=1.0),
        "precision": lambda: Engine(MLP(2), EnergyDiscrepancy(), precision="fp64"),
        "accumulate 0": lambda: Engine(MLP(2), EnergyDiscrepancy(), accumulate=0),
        "nothing to train": lambda: Engine(nn.Identity(), EnergyDiscrepancy()),
        "lr 0": lambda: OptimizerSettings(lr=0.0),
        "guard of 0": lambda: Guard(limit=0.0),
        "steps 0": lambda: Engine(MLP(2), EnergyDiscrepancy()).fit(batches(rows, size=4), steps=0),
        "steps 1.5": lambda: Engine(MLP(2), EnergyDiscrepancy()).fit(batches(rows, size=4), steps=1.5),
        "t per feature": lambda: Engine(MLP(2), EnergyDiscrepancy(perturbation=GaussianNoise(t=(1.0, 1.0, 1.0)))).fit(
            batches(rows, size=4), steps=1
        ),
        "mean pool of rows": lambda: Engine(MLP(2), EnergyDiscrepancy(perturbation=MeanPool(window=2, t=1.0))).fit(
            batches(rows, size=4), steps=1
        ),
        "a table of NaN": lambda: Table(("a",), np.full((3, 1), nan)),
        "names of a table": lambda: Table(("a",), np.zeros((3, 2))),
    }
    for name, make in settings.items():
        yield Case(f"settings: {name}", lambda m=make: _in_library(m))
    returns: dict[str, Callable[[Tensor], Any]] = {
        "a column": lambda x: x[:, :1],
        "a mean": lambda x: x.mean(),
        "rows": lambda x: x,
        "too few": lambda x: x[1:, 0],
        "integers": lambda x: x[:, 0].long(),
        "nothing": lambda x: None,
    }
    for name, what in returns.items():
        yield Case(
            f"contract: {name}",
            lambda w=what: _in_library(
                lambda: Engine(_Says(w), EnergyDiscrepancy()).fit(batches(rows, size=4), steps=1)
            ),
        )
    energies = {
        "MLP": MLP(2),
        "FourierMLP": FourierMLP(2),
        "Gaussian": Gaussian(torch.zeros(2)),
        "GaussianMixture": GaussianMixture(torch.zeros(3, 2)),
        "Ring": Ring(),
    }
    for name, energy in energies.items():
        for width in (1, 3):
            wrong = torch.zeros(5, width)
            yield Case(f"{name}: {width} columns", lambda e=energy, x=wrong: _in_library(lambda: energy_values(e, x)))
    for name in ("MLP", "FourierMLP"):
        for wrong in (torch.zeros(16, 3), torch.zeros(16, 2, dtype=torch.float64)):
            yield Case(
                f"fit: {name} on {wrong.shape[1]} columns of {wrong.dtype}",
                lambda e=energies[name], x=wrong: _in_library(
                    lambda: Engine(e, EnergyDiscrepancy()).fit(batches(x, size=4), steps=1)
                ),
            )


class _Says(nn.Module):
    def __init__(self, what: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.weight, self.what = nn.Parameter(torch.ones(())), what

    def forward(self, x: Tensor) -> Any:
        return self.what(x * self.weight)


def bad_inputs(rng: random.Random) -> dict[str, Any]:
    """Try them all; which were not refused as they should be."""
    np.save("rows.npy", np.random.default_rng(SEED).normal(size=(40, 3)))
    Path("runs").mkdir()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        # a csv file, so that its columns have names that scored rows must have
        np.savetxt("good.csv", np.load("rows.npy"), delimiter=",", header="x0,x1,x2", comments="")
        status = chainfree_main(["train", "--data", "good.csv", *TINY, "--name", "good", "--out", "."])
    if status != 0:
        raise RuntimeError(f"the run to be spoilt was not trained: status {status}")
    cases = [
        *_flag_cases(),
        *_config_cases(rng),
        *_file_cases(rng),
        *_run_cases(rng),
        *_library_cases(),
    ]
    problems = {case.name: case.refuse() for case in cases}
    in_processes = list(_of_process_cases(rng))
    with ThreadPoolExecutor(2) as pool:
        problems |= dict(
            zip([case.name for case in in_processes], pool.map(lambda case: case.refuse(), in_processes), strict=True)
        )
    failed = {name: problem for name, problem in problems.items() if problem is not None}
    return {"bad_inputs_tried": len(cases) + len(in_processes), "tracebacks": len(failed), "not_refused": failed}


# -- divergence ----------------------------------------------------------------------------------------------------------


class _Breaks(nn.Module):
    """A network whose energies are NaN from the given step on, whatever is restored."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.network, self.step, self.calls = MLP(2, width=16, depth=1), step, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1  # the loss evaluates the energy once a step
        values: Tensor = self.network(x)
        return values * float("nan") if self.calls > self.step else values


class _OneInfinity:
    """Draws of a normal with an infinity in one batch."""

    def __init__(self, step: int) -> None:
        self.step, self.position = step, 0

    def __next__(self) -> Batch:
        x = torch.randn(32, 2, generator=torch.Generator().manual_seed(self.position))
        if self.position == self.step:
            x[7, 1] = torch.inf
        self.position += 1
        return Batch(x)

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.position = state["position"]


class _Restarts(Callback):
    """Counts how often the guard went back."""

    def __init__(self) -> None:
        self.count = 0

    def on_event(self, engine: Engine, kind: str, message: str) -> None:
        self.count += kind == "guard"


def guard(folder: Path) -> dict[str, Any]:
    """Three ways of diverging: how each ended, and what is on disk then."""
    torch.manual_seed(SEED)
    rows = batches(toy_density("25gaussians").sample(1000, generator=torch.Generator().manual_seed(0)), size=32)
    fast = OptimizerSettings(lr=1e3)
    return {
        "learning_rate_1e3": _diverging(folder / "lr", lambda: MLP(2, width=16, depth=2), rows, fast),
        "nan_from_step_100": _diverging(folder / "nan", lambda: _Breaks(100), rows, OptimizerSettings()),
        "infinity_in_a_batch": _diverging(
            folder / "inf", lambda: MLP(2, width=16, depth=1), _OneInfinity(150), OptimizerSettings()
        ),
    }


def _diverging(folder: Path, make: Callable[[], nn.Module], data: Any, optimizer: OptimizerSettings) -> dict[str, Any]:
    watched = _Restarts()

    def engine() -> Engine:
        return Engine(
            make(),
            EnergyDiscrepancy(),
            optimizer=optimizer,
            schedule=Constant(),
            guard=Guard(every=20),
            checkpoints=folder,
            checkpoint_every=50,
            callbacks=[watched],
        )

    trained = engine()
    try:
        ended = trained.fit(data, steps=400).stopped
    except TrainingDivergedError as error:
        ended = f"diverged: {error}"
    loaded = engine()
    loaded.resume(latest_checkpoint(folder))
    state = torch.load(latest_checkpoint(folder), weights_only=True)
    return {
        "ended": ended,
        "restarts": watched.count,
        "last_good_step": trained.step,
        "checkpoint_step": loaded.step,
        "checkpoint_loads": True,  # or resume() above would have raised
        "checkpoint_finite": _all_finite(state),
        "weights_finite": all(bool(torch.isfinite(p).all()) for p in trained.energy.parameters()),
    }


def _all_finite(state: Any) -> bool:
    if isinstance(state, Tensor):
        return not state.is_floating_point() or bool(torch.isfinite(state).all())
    if isinstance(state, Mapping):
        return all(_all_finite(value) for value in state.values())
    if isinstance(state, list | tuple):
        return all(_all_finite(value) for value in state)
    return not isinstance(state, float) or bool(np.isfinite(state))


def main() -> None:
    one_thread()
    rng = random.Random(SEED)
    recorder = Recorder("faults", "python -m benchmarks.faults", RESULTS, (SEED,))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "rows.npy", np.random.default_rng(SEED).normal(size=(400, 4)))
        ended = kills(folder, rng)
        print(json.dumps({k: v for k, v in ended.items() if not k.startswith("kill_history")}), flush=True)
        (folder / "bad").mkdir()
        with contextlib.chdir(folder / "bad"):
            bad = bad_inputs(rng)
        print(json.dumps(bad, indent=2), flush=True)
        ends = guard(folder / "guard")
    figures = {**ended, **bad, "guard": ends}
    print(json.dumps(ends, indent=2))
    print(recorder.write(figures, packages=["pyarrow"]))


if __name__ == "__main__":
    main()
