"""Settings are chosen on held-out training rows, and a search that was stopped goes on."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from chainfree.engine import TrainingDivergedError
from chainfree.experiments import JointSearch, notes
from chainfree.experiments.joint import search, tasks
from chainfree.experiments.joint.search import candidates, choice
from chainfree.experiments.joint.tasks import Task
from chainfree.objectives import Joint


def test_a_grid_is_every_combination_beside_what_is_fixed() -> None:
    settings = {"kind": "network", "steps": 5, "grid": {"lr": [1.0, 2.0], "batch": [3, 4]}}
    found = candidates(settings)
    assert len(found) == 4
    assert {(f["lr"], f["batch"], f["steps"]) for f in found} == {(a, b, 5) for a in (1.0, 2.0) for b in (3, 4)}
    assert candidates({"kind": "discriminant"}) == [{"kind": "discriminant"}]
    for grid in ({"lr": 1.0}, {"lr": []}, {"steps": [1]}):
        with pytest.raises(ValueError, match="must be a list of values"):
            candidates({"kind": "network", "steps": 5, "grid": grid})


def test_numbers_of_labels_may_share_a_table() -> None:
    both, one = {"a": {"kind": "discriminant"}}, {"b": {"kind": "normal_classes"}}
    assert search.by_labels({"100, 1000": both, "100": one}) == {"100": both | one, "1000": both}
    with pytest.raises(ValueError, match="by number of labels"):
        search.by_labels({"100,few": both})


def test_the_choice_is_the_surest_of_the_near_best() -> None:
    def candidate(name: int, accuracy: float, nll: float) -> dict[str, Any]:
        return {"settings": {"lr": name}, "accuracy": accuracy, "nll": nll, "ece": 0.0, "temperature": 2.0 + name}

    scores = [
        candidate(0, 0.900, 0.5),
        candidate(1, 0.897, 0.3),
        candidate(2, 0.890, 0.1),
        {"settings": {"lr": 3}, "diverged": "NaN"},
    ]
    assert choice(scores) == {"lr": 1, "temperature": 3.0}
    with pytest.raises(TrainingDivergedError, match="every candidate"):
        choice(scores[3:])


def test_a_search_looks_at_held_out_training_rows_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, real = [], tasks.TASKS["normals"]

    def spied(judged_on: str) -> Task:
        asked.append(judged_on)
        return real(judged_on)

    monkeypatch.setitem(tasks.TASKS, "normals", spied)
    methods = {"20": {"logistic": {"kind": "logistic_regression", "grid": {"inverse_penalty": [1e-6, 1.0]}}}}
    figures, picture = JointSearch(task="normals", methods=methods, budget=2).run()
    assert set(asked) == {"validation"}
    assert figures["rows"] == [800, 400]
    tried = figures["candidates"]["20"]["logistic"]
    assert [found["settings"]["inverse_penalty"] for found in tried] == [1e-6, 1.0]
    chosen = figures["chosen"]["20"]["logistic"]
    assert chosen["kind"] == "logistic_regression" and chosen["temperature"] in [f["temperature"] for f in tried]
    assert isinstance(picture, Figure)
    with pytest.raises(ValueError, match="has 2 candidates, budget is 1"):
        JointSearch(task="normals", methods=methods, budget=1)


def test_a_search_that_was_stopped_goes_on_with_the_same_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "sources", lambda: "abc")
    path = tmp_path / "deep" / "notes.jsonl"
    methods = {"20": {"logistic": {"kind": "logistic_regression", "grid": {"inverse_penalty": [0.1, 1.0]}}}}
    settings: dict[str, Any] = {"task": "normals", "methods": methods, "budget": 2, "found": str(path)}
    first, _ = JointSearch(**settings).run()
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:-1], lines[-1][:40]]))  # killed while it wrote
    calls = []
    real = search.trained
    monkeypatch.setattr(search, "trained", lambda *a, **k: (calls.append(a[1]), real(*a, **k))[1])
    second, _ = JointSearch(**settings).run()
    assert [call["inverse_penalty"] for call in calls] == [1.0, 1.0]  # of the last candidate, two seeds
    assert second["candidates"]["20"]["logistic"][0] == first["candidates"]["20"]["logistic"][0]
    assert second["chosen"] == first["chosen"]
    monkeypatch.setattr(notes, "sources", lambda: "def")
    calls.clear()
    JointSearch(**settings).run()
    assert len(calls) == 4


@pytest.mark.parametrize("line", ['{"a": 1}', "[1]", "3"])
def test_a_file_of_other_things_is_refused(line: str, tmp_path: Path) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(ValueError, match="other things than an experiment's notes; name another file"):
        notes.Notes(path)


def test_a_training_that_a_signal_cut_short_is_no_candidate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a training must not be written down as what was found."""
    path = tmp_path / "notes.jsonl"
    methods = {"20": {"network": {"kind": "network", "widths": [8], "steps": 100_000, "lr": 1e-3}}}
    real, rounds = Joint.updates, []

    def signalling(self: Joint, *arguments: Any) -> Any:
        rounds.append(1)
        if len(rounds) == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return real(self, *arguments)

    monkeypatch.setattr(Joint, "updates", signalling)
    with pytest.raises(KeyboardInterrupt, match="stopped by SIGINT"):
        JointSearch(task="normals", methods=methods, found=str(path)).run()
    assert len(rounds) < 10 and not path.exists()


def test_a_candidate_that_diverges_is_told_and_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    real = search.trained

    def diverging(task: Task, settings: Any, *rest: Any, **options: Any) -> Any:
        if settings["inverse_penalty"] > 1:
            raise TrainingDivergedError("loss is nan\nand more")
        return real(task, settings, *rest, **options)

    monkeypatch.setattr(search, "trained", diverging)
    methods = {"20": {"logistic": {"kind": "logistic_regression", "grid": {"inverse_penalty": [2.0, 1.0]}}}}
    figures, _ = JointSearch(task="normals", methods=methods, budget=2).run()
    assert figures["candidates"]["20"]["logistic"][0]["diverged"] == "loss is nan"
    assert figures["chosen"]["20"]["logistic"]["inverse_penalty"] == 1.0
