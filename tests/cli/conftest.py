"""The command line, called in this process: fast, and nothing of it may leak into other tests."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from chainfree.cli import main
from chainfree.cli.run_folder import RunFolder
from chainfree.engine.atomic import write_text

TINY = ("--steps", "5", "--batch", "16", "--network.width", "8", "--network.depth", "1", "--threads", "1")


@dataclass(frozen=True)
class Ended:
    """How a call of the program ended."""

    status: int
    out: str
    err: str

    def refused(self) -> str:
        """Its message, where it refused as it should: status 2, one line, no result, no traceback."""
        lines = self.err.splitlines()
        assert self.status == 2, (self.status, self.err)
        assert len(lines) == 1, self.err
        assert lines[0].startswith("chainfree: "), self.err
        assert "Traceback" not in self.err
        assert self.out == ""
        return lines[0]


def call(*arguments: str) -> Ended:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(arguments)
    return Ended(status, out.getvalue(), err.getvalue())


@pytest.fixture(autouse=True)
def small_and_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In a folder of its own; few rows of toy densities; the number of threads is put back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CHAINFREE_DEBUG", raising=False)
    monkeypatch.setattr("chainfree.cli.sources._TOY_FIT_ROWS", 1000)
    monkeypatch.setattr("chainfree.cli.sources._TOY_HELD_OUT_ROWS", 1000)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of the time of a tiny run is its pictures."""
    # the package's own name "train" may be the function
    monkeypatch.setattr(sys.modules["chainfree.cli.train"], "draw_report", lambda *_: [])


@pytest.fixture
def only_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    """The summary is written, and no picture."""

    def write(run: RunFolder, *rest: Any) -> list[str]:
        write_text(run.report / "summary.json", json.dumps(rest[-1]))
        return []

    for command in ("train", "evaluate"):
        monkeypatch.setattr(sys.modules[f"chainfree.cli.{command}"], "draw_report", write)


@pytest.fixture
def chainfree() -> Callable[..., Ended]:
    """``chainfree ARGUMENTS``."""
    return call


@pytest.fixture
def tiny() -> tuple[str, ...]:
    """Flags of a training of five steps."""
    return TINY


def table(rows: int = 120, columns: int = 3, seed: int = 0) -> np.ndarray:
    """Correlated columns with an offset each."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, columns)) @ (np.eye(columns) + 0.3) + 10 * np.arange(columns)


def write_csv(path: Path, x: np.ndarray, names: str) -> Path:
    np.savetxt(path, x, delimiter=",", header=names, comments="", fmt="%.17g")
    return path


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    """A table of 120 rows and the columns a, b, c."""
    pytest.importorskip("pyarrow", reason="tables need pyarrow")
    return write_csv(tmp_path / "rows.csv", table(), "a,b,c")


@pytest.fixture(scope="session")
def _trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("pyarrow", reason="tables need pyarrow")
    folder = tmp_path_factory.mktemp("trained")
    write_csv(folder / "rows.csv", table(), "a,b,c")
    threads = torch.get_num_threads()
    with contextlib.chdir(folder):
        ended = call("train", "--data", "rows.csv", "--name", "run", "--out", ".", *TINY)
    torch.set_num_threads(threads)
    assert ended.status == 0, ended.err
    return folder


@pytest.fixture
def trained(_trained: Path, tmp_path: Path) -> Path:
    """The folder of a trained run, a copy that may be spoilt. Its table is the one of :func:`csv`."""
    shutil.copytree(_trained / "run", tmp_path / "run")
    shutil.copy(_trained / "rows.csv", tmp_path / "rows.csv")
    config = tmp_path / "run" / "config.toml"
    config.write_text(config.read_text().replace(str(_trained), str(tmp_path)))
    return tmp_path / "run"


@pytest.fixture
def make_table() -> Callable[..., np.ndarray]:
    """Rows of numbers."""
    return table


@pytest.fixture
def save_csv() -> Callable[[Path, np.ndarray, str], Path]:
    """Write a table with a header line."""
    return write_csv
