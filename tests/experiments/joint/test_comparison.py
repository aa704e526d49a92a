"""Methods beside each other, by several seeds and in several processes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from chainfree.engine import TrainingDivergedError
from chainfree.evaluation import reliability
from chainfree.experiments import JointComparison, JointSearch
from chainfree.experiments.joint import comparison, runs
from chainfree.experiments.joint.tasks import Task, load_task
from chainfree.experiments.notes import Notes
from chainfree.experiments.side_by_side import side_by_side


def test_temperatures_touch_the_scaled_scores_alone() -> None:
    cold = {"kind": "normal_classes", "temperature": 1.0}
    hot = {"kind": "normal_classes", "temperature": 5.0}
    figures, _ = JointComparison(task="normals", methods={"all": {"cold": cold, "hot": hot}}, seeds=(0,)).run()
    scaled = figures["after_temperature"]
    assert figures["nll"]["all"]["hot"] == figures["nll"]["all"]["cold"] == scaled["nll"]["all"]["cold"]
    assert scaled["nll"]["all"]["hot"]["mean"] > scaled["nll"]["all"]["cold"]["mean"]
    assert scaled["accuracy"]["all"]["hot"] == figures["accuracy"]["all"]["hot"]


def _process(question: int) -> tuple[int, int, int]:
    return question, os.getpid(), torch.get_num_threads()


def test_questions_are_asked_in_other_processes_with_as_many_threads() -> None:
    questions = [(index,) for index in range(6)]
    answers = sorted(side_by_side(_process, questions, jobs=2))
    assert [(index, answer[0]) for index, answer in answers] == [(k, k) for k in range(6)]
    assert os.getpid() not in {process for _, (_, process, _) in answers}
    assert {threads for _, (_, _, threads) in answers} == {torch.get_num_threads()}
    assert {process for _, (_, process, _) in side_by_side(_process, questions, jobs=1)} == {os.getpid()}


def test_answers_out_of_order_come_to_their_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    def backwards(ask: Any, questions: Any, *, jobs: int) -> Any:
        for index in reversed(range(len(questions))):
            yield index, ask(*questions[index])

    def trained(task: Any, settings: Any, labels: str, *, balanced: bool, seed: int) -> Any:
        if seed == 8:
            raise TrainingDivergedError("loss is nan")
        assert "temperature" not in settings
        return settings["kind"], labels, seed

    def judge(task: Any, run: Any, question: Any) -> Any:
        return {"found": [*run, question["name"], question["about"]]}

    monkeypatch.setattr(runs, "side_by_side", backwards)
    monkeypatch.setattr(runs, "trained", trained)
    methods = {"3": {"a": {"kind": "A", "temperature": 2.0}, "b": {"kind": "B"}}, "4": {"a": {"kind": "C"}}}
    notes = Notes(Path("notes.jsonl"))
    asked: dict[str, Any] = {"about": {"about": 1}, "balanced": True, "seeds": (7, 8), "jobs": 2, "notes": notes}
    for _ in range(2):  # the second time all is known
        found = list(runs.by_method(judge, "normals", methods, **asked))
        assert found == [
            ("3", "a", [{"found": ["A", "3", 7, "a", 1]}, None]),
            ("3", "b", [{"found": ["B", "3", 7, "b", 1]}, None]),
            ("4", "a", [{"found": ["C", "4", 7, "a", 1]}, None]),
        ]
        assert notes.added == 6


def test_a_comparison_that_was_stopped_goes_on_with_the_same_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, fitted = runs.trained, []

    def counted(task: Task, settings: Any, labels: str, *, balanced: bool, seed: int) -> Any:
        if len(fitted) == stop_after:
            raise KeyboardInterrupt
        fitted.append((settings["kind"], seed))
        return real(task, settings, labels, balanced=balanced, seed=seed)

    monkeypatch.setattr(runs, "trained", counted)
    methods = {
        "30": {"normal": {"kind": "normal_classes", "temperature": 2.0}, "discriminant": {"kind": "discriminant"}}
    }
    settings: dict[str, Any] = {"task": "normals", "methods": methods, "seeds": (0, 1)}
    stop_after = -1
    whole, picture = JointComparison(**settings, found=str(tmp_path / "whole.jsonl")).run()
    assert whole["taken_up"] == 0 and len(fitted) == 4
    fitted.clear()
    stop_after = 3
    with pytest.raises(KeyboardInterrupt):
        JointComparison(**settings, found=str(tmp_path / "parts.jsonl")).run()
    stop_after = -1
    rest, drawn = JointComparison(**settings, found=str(tmp_path / "parts.jsonl")).run()
    assert fitted == [("normal_classes", 0), ("normal_classes", 1), ("discriminant", 0), ("discriminant", 1)]
    assert rest["taken_up"] == 3
    for figures in (whole, rest):
        del figures["taken_up"], figures["seconds"]
    assert rest == whole
    assert [axes.get_title() for axes in drawn.axes] == [axes.get_title() for axes in picture.axes]


def test_bins_of_several_seeds_are_those_of_all_rows() -> None:
    task = load_task("normals", "test")
    logits = 3 * torch.randn(3, len(task.x_judged), 2, generator=torch.Generator().manual_seed(0))
    pooled = comparison._pooled([[part.tolist() for part in reliability(one, task.y_judged)] for one in logits])
    whole = reliability(logits.flatten(0, 1), task.y_judged.repeat(3))
    for part, of_all in zip(pooled, whole, strict=True):
        torch.testing.assert_close(part, of_all)


def test_a_seed_that_diverges_keeps_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    real = runs.trained

    def diverging(task: Task, settings: Any, labels: str, *, balanced: bool, seed: int) -> Any:
        if seed == 1:
            raise TrainingDivergedError("loss is nan")
        return real(task, settings, labels, balanced=balanced, seed=seed)

    monkeypatch.setattr(runs, "trained", diverging)
    methods = {"30": {"normal": {"kind": "normal_classes"}}}
    figures, _ = JointComparison(task="normals", methods=methods, seeds=(0, 1, 2)).run()
    found = figures["accuracy"]["30"]["normal"]
    first, second, third = found["seeds"]
    assert second is None and found["mean"] == pytest.approx((first + third) / 2)
    assert figures["diverged"]["30"]["normal"] == 1


def test_trainings_side_by_side_find_what_one_after_the_other_do(tmp_path: Path) -> None:
    grid = {"kind": "network", "widths": [8], "steps": 5, "grid": {"lr": [1e-1, 1e-3]}}
    methods = {"20": {"network": grid, "normal": {"kind": "normal_classes"}}}

    def scores(jobs: int) -> dict[str, Any]:
        found, _ = JointSearch(task="normals", methods=methods, found=str(tmp_path / f"{jobs}.jsonl"), jobs=jobs).run()
        chosen: dict[str, Any] = found["chosen"]
        notes = str(tmp_path / f"comparison{jobs}.jsonl")
        compared, _ = JointComparison(task="normals", methods=chosen, seeds=(0, 1), jobs=jobs, found=notes).run()
        return {"chosen": chosen, "nll": compared["nll"], "ece": compared["ece"]}

    assert scores(2) == scores(1)
    with pytest.raises(ValueError, match="jobs"):
        JointComparison(task="normals", methods=methods, jobs=0)
