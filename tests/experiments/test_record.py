"""Results as files."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from chainfree.experiments import Recorder


def _record(folder: Path, figures: dict[str, Any]) -> dict[str, Any]:
    path = Recorder("name", "make it", folder, (0, 1)).write(figures, packages=["matplotlib"])
    assert path == folder / "name.json"
    read: dict[str, Any] = json.loads(path.read_text())
    return read


def test_a_record_says_how_it_came_about(tmp_path: Path) -> None:
    record = _record(tmp_path / "results", {"a": 1, "b": [0.5, {"c": True}]})
    assert list(record) == ["command", "commit", "machine", "threads", "versions", "seeds", "seconds", "figures"]
    assert (record["command"], record["seeds"]) == ("make it", [0, 1])
    assert record["figures"] == {"a": 1, "b": [0.5, {"c": True}]}
    assert record["versions"]["torch"] == torch.__version__
    assert {"python", "chainfree", "numpy", "matplotlib"} < set(record["versions"])
    assert record["threads"] == torch.get_num_threads()
    assert 0 <= record["seconds"] < 60


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), np.float64("nan")])
@pytest.mark.parametrize("wrap", [lambda v: {"a": v}, lambda v: {"a": [1.0, v]}, lambda v: {"a": {"b": (v,)}}])
def test_what_is_no_number_is_no_result(bad: float, wrap: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"name\.a.*no result"):
        _record(tmp_path, wrap(bad))
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_record(tmp_path: Path) -> None:
    _record(tmp_path, {"a": 1})
    with pytest.raises(TypeError):
        _record(tmp_path, {"a": object()})
    assert json.loads((tmp_path / "name.json").read_text())["figures"] == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["name.json"]


def test_the_commit_is_marked_where_files_differ_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert _record(tmp_path / "results", {})["commit"] == "unknown"

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        return subprocess.run(["git", *identity, *arguments], capture_output=True, text=True, check=True).stdout.strip()

    git("init", "-q")
    Path("file").write_text("1")
    git("add", "file")
    git("commit", "-q", "-m", "first")
    head = git("rev-parse", "HEAD")
    # results themselves are no change
    assert _record(tmp_path / "results", {})["commit"] == head
    Path("file").write_text("2")
    assert _record(tmp_path / "results", {})["commit"] == head + "+changes"
