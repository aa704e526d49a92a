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


def test_the_spread_is_that_of_all_seeds() -> None:
    assert asked.spread([1.0, 3.0]) == {"mean": 2.0, "std": 1.0}
