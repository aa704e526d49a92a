"""Questions side by side, and what is taken up again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

asked = pytest.importorskip("benchmarks.asked")


def squared(question: Mapping[str, Any]) -> dict[str, float]:
    return {"square": float(question["n"]) ** 2}


def refuses(question: Mapping[str, Any]) -> dict[str, float]:
    raise AssertionError(f"{question} was asked again")


def test_answers_are_written_down_and_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    questions = [{"n": n} for n in range(4)]
    notes = asked.answers("squares", squared, questions[:3], jobs=2)
    assert [notes[question]["square"] for question in questions[:3]] == [0, 1, 4]
    assert "3/3" in capsys.readouterr().out and (tmp_path / "runs" / "squares.jsonl").is_file()
    again = asked.answers("squares", refuses, questions[:3], jobs=1)
    assert again[questions[2]] == {"square": 4.0}
    assert asked.answers("squares", squared, questions, jobs=1)[questions[3]] == {"square": 9.0}
    assert "1/1 3 {'square': 9.0}" in capsys.readouterr().out


def test_answers_of_other_files_last_as_long_as_these(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = tmp_path / "peer.py"
    code.write_text("first")
    asked.answers("peers", squared, [{"n": 3}], jobs=1, made_by=[code])
    monkeypatch.setattr("chainfree.experiments.notes.sources", lambda: "other sources of chainfree")
    assert asked.answers("peers", refuses, [{"n": 3}], jobs=1, made_by=[code])[{"n": 3}] == {"square": 9.0}
    code.write_text("second")
    with pytest.raises(AssertionError, match="asked again"):
        asked.answers("peers", refuses, [{"n": 3}], jobs=1, made_by=[code])


def test_the_spread_is_that_of_all_seeds() -> None:
    assert asked.spread([1.0, 3.0]) == {"mean": 2.0, "std": 1.0}
