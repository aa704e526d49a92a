"""Joint models beside others, on classes that are known."""

from __future__ import annotations

import json
import os
import signal
import threading
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from scipy.stats import norm

from chainfree.datasets import data_dir
from chainfree.engine import TrainingDivergedError
from chainfree.evaluation import anomaly_scores, outlier_scores
from chainfree.experiments import JointComparison, JointOutside, JointSearch, JointTraining
from chainfree.experiments.joint import notes, outside, runs, search, tasks
from chainfree.experiments.joint.augment import augmented
from chainfree.experiments.joint.jobs import side_by_side
from chainfree.experiments.joint.marginals import MarginalSettings
from chainfree.experiments.joint.methods import METHODS, method
from chainfree.experiments.joint.networks import Network
from chainfree.experiments.joint.search import candidates, choice
from chainfree.experiments.joint.tasks import Task, labelled_at_random, load_task

ROOT = Path(__file__).parents[2]
SMALL = {"kind": "network", "widths": [16, 16], "steps": 150, "batch": 32, "labelled": 16, "lr": 3e-3}
GAME = {"latent": 2, "generator_width": 8, "first_moment": 0.0}
CHAINS = {"marginal": "sgld", "buffer": 64, "chain_steps": 3, "step_size": 0.1, "energy_square": 0.1}
needs_data = pytest.mark.skipif(data_dir() is None, reason="CHAINFREE_DATA names no folder")


def _two_normals(judged_on: str) -> Task:
    """Means 3 apart along the first axis: the best accuracy is Phi(1.5)."""
    source = torch.Generator().manual_seed(0 if judged_on == "validation" else 1)
    y = torch.arange(1200) % 2
    x = torch.randn(1200, 3, generator=source)
    x[:, 0] += 3.0 * y
    return Task(x[:800], y[:800], x[800:], y[800:], 2)


@pytest.fixture(autouse=True)
def normals(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # where runs/ is made
    monkeypatch.setitem(tasks.TASKS, "normals", _two_normals)


def test_labels_are_as_many_as_asked_of_every_class_or_in_all() -> None:
    y = torch.tensor([0] * 50 + [1] * 30 + [2] * 20)
    balanced = labelled_at_random(y, 7, balanced=True, seed=3)
    assert torch.bincount(balanced[balanced >= 0]).tolist() == [7, 7, 7]
    assert torch.equal(balanced[balanced >= 0], y[balanced >= 0])
    assert torch.equal(balanced, labelled_at_random(y, 7, balanced=True, seed=3))
    assert not torch.equal(balanced, labelled_at_random(y, 7, balanced=True, seed=4))
    together = labelled_at_random(y, 60, balanced=False, seed=0)
    assert int((together >= 0).sum()) == 60
    for labels, how in ((21, True), (101, False)):
        with pytest.raises(ValueError, match="more than there are rows"):
            labelled_at_random(y, labels, balanced=how, seed=0)
    with pytest.raises(ValueError, match="raise labels"):
        labelled_at_random(y, 2, balanced=False, seed=0)


KINDS: dict[str, dict[str, Any]] = {
    "logistic": {"kind": "logistic_regression"},
    "self-trained": {"kind": "logistic_regression", "self_training": 0.9},
    "discriminant": {"kind": "discriminant"},
    "self-trained discriminant": {"kind": "discriminant", "self_training": 0.99},
    "spreading": {"kind": "label_spreading"},
    "normal classes": {"kind": "normal_classes"},
    "supervised": SMALL,
    "adversarial": SMALL | {"adversarial_radius": 0.3, "class_entropy": 0.1},
    "ed": SMALL | {"marginal": "energy_discrepancy", "noise": 0.5},
    "denoising": SMALL | {"marginal": "denoising", "noise": 0.3, "activation": "silu"},
    "vera": SMALL | GAME | {"marginal": "vera"},
    "meg": SMALL | GAME | {"marginal": "meg"},
    "sgld": SMALL | CHAINS,
    "tilted": SMALL | {"marginal": "energy_discrepancy", "base": True, "base_temperature": 2.0, "lr": 1e-4},
}


def test_every_kind_comes_near_the_best_accuracy_there_is() -> None:
    comparison = JointComparison(task="normals", methods={"30": KINDS}, seeds=(0, 1))
    figures, picture = comparison.run()
    best = norm.cdf(1.5)
    assert {settings["kind"] for settings in KINDS.values()} == set(METHODS)
    for name in KINDS:
        found = figures["accuracy"]["30"][name]
        assert found["mean"] == pytest.approx(np.mean(found["seeds"]))
        assert found["std"] == pytest.approx(np.std(found["seeds"], ddof=1))
        # games are rough after so few rounds, spreading is over few dimensions of many
        assert best - 0.12 < found["mean"] < best + 0.03, name
        assert 0 <= figures["ece"]["30"][name]["mean"] < 0.15, name
    assert isinstance(picture, Figure)
    assert figures["rows"] == {"train": 800, "test": 400}


DENSITIES: dict[str, dict[str, Any]] = {
    "ed": {},
    "denoising": {},
    "vera": {"entropy_weight": 1.0, "latent": 4, "generator_width": 32},
    "sgld": {"chain_noise": 0.5, "step_size": 0.25, "chain_steps": 10},
    "tilted": {},
}


@pytest.mark.parametrize("name", DENSITIES)
def test_what_learns_a_density_tells_rows_from_noise_and_a_classifier_does_not(name: str) -> None:
    task = _two_normals("test")
    source = torch.Generator().manual_seed(5)
    noise = 8 * torch.rand(400, 3, generator=source) - 4 + torch.tensor([1.5, 0.0, 0.0])

    def found(settings: dict[str, Any]) -> float:
        fitted = method(settings).fit(task.x, task.y, classes=2, seed=0)
        rows = torch.cat([fitted.coordinates(part) for part in (task.x_judged, noise)])  # type: ignore[attr-defined]
        energies = outlier_scores(fitted.energy, rows).energy  # type: ignore[attr-defined]
        return anomaly_scores(energies, torch.arange(800) >= 400).auroc

    learned = KINDS[name] | DENSITIES[name] | {"marginal_weight": 5.0, "widths": [32, 32], "steps": 500}
    assert found(learned) > 0.88
    assert found(SMALL) < 0.6


def test_terms_without_labels_are_taken() -> None:
    """Each changes what is learned, from equal beginnings and equal rows."""
    task = _two_normals("test")
    y = labelled_at_random(task.y, 5, balanced=True, seed=0)
    few = SMALL | {"steps": 20}
    extra: list[dict[str, Any]] = [
        {"class_entropy": 1.0},
        {"class_balance": 1.0},
        {"adversarial_radius": 1.0},
        {"adversarial_radius": 1.0, "adversarial_probe": 1.0},
        {"marginal": "energy_discrepancy"},
        {"marginal": "energy_discrepancy", "marginal_rows": 16},
        {"precision": "bf16"},
        {"base": True},
        {"base": True, "base_temperature": 3.0},
        {"base": True, "base_em_steps": 0},
        {"weight_decay": 1.0},
    ]
    logits = [method(few | more).fit(task.x, y, classes=2, seed=0).logits(task.x_judged) for more in [{}, *extra]]
    for first in range(len(logits)):
        for second in range(first):
            assert not torch.allclose(logits[first], logits[second], atol=1e-4), (first, second)


def test_half_the_digits_learn_nearly_the_same() -> None:
    task = _two_normals("test")
    terms = SMALL | {"steps": 60, "adversarial_radius": 1.0, "adversarial_probe": 1.0, "class_entropy": 0.1}
    exact, rough = (
        method(terms | {"precision": precision}).fit(task.x, task.y, classes=2, seed=0).logits(task.x_judged)
        for precision in ("fp32", "bf16")
    )
    change = (rough.softmax(1) - exact.softmax(1)).abs()
    assert 0 < float(change.mean()) < 0.02


def test_noise_follows_the_narrow_columns_of_a_table() -> None:
    x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 0.1, 5.0])
    loss, _ = MarginalSettings(noise=0.2).build("energy_discrepancy", x, 0)
    t = loss.perturbation.t  # type: ignore[union-attr]
    np.testing.assert_allclose(np.sqrt(t), [0.2, 0.02, 0.2], rtol=0.1)
    even, _ = MarginalSettings(noise=0.2).build("energy_discrepancy", 5 * x[:, :1], 0)
    assert even.perturbation.t == pytest.approx(0.04)  # type: ignore[union-attr]


def test_temperatures_touch_the_scaled_scores_alone() -> None:
    cold = {"kind": "normal_classes", "temperature": 1.0}
    hot = {"kind": "normal_classes", "temperature": 5.0}
    figures, _ = JointComparison(task="normals", methods={"all": {"cold": cold, "hot": hot}}, seeds=(0,)).run()
    scaled = figures["after_temperature"]
    assert figures["nll"]["all"]["hot"] == figures["nll"]["all"]["cold"] == scaled["nll"]["all"]["cold"]
    assert scaled["nll"]["all"]["hot"]["mean"] > scaled["nll"]["all"]["cold"]["mean"]
    assert scaled["accuracy"]["all"]["hot"] == figures["accuracy"]["all"]["hot"]


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
    asked = []

    def spied(judged_on: str) -> Task:
        asked.append(judged_on)
        return _two_normals(judged_on)

    monkeypatch.setitem(tasks.TASKS, "normals", spied)
    methods = {"20": {"logistic": {"kind": "logistic_regression", "grid": {"inverse_penalty": [1e-6, 1.0]}}}}
    figures, picture = JointSearch(task="normals", methods=methods, budget=2).run()
    assert asked == ["validation"]
    assert figures["rows"] == [800, 400]
    tried = figures["candidates"]["20"]["logistic"]
    assert [found["settings"]["inverse_penalty"] for found in tried] == [1e-6, 1.0]
    chosen = figures["chosen"]["20"]["logistic"]
    assert chosen["kind"] == "logistic_regression" and chosen["temperature"] in [f["temperature"] for f in tried]
    assert isinstance(picture, Figure)
    with pytest.raises(ValueError, match="has 2 candidates, budget is 1"):
        JointSearch(task="normals", methods=methods, budget=1)


def test_a_search_that_was_stopped_goes_on_at_the_same_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "commit", lambda: "abc")
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
    for other in ("def", "abc+changes", "unknown"):
        monkeypatch.setattr(notes, "commit", lambda other=other: other)
        calls.clear()
        JointSearch(**settings).run()
        assert len(calls) == 4


def test_a_training_that_a_signal_cut_short_is_no_candidate(tmp_path: Path) -> None:
    """Half a training must not be written down as what was found."""
    path = tmp_path / "notes.jsonl"
    methods = {"20": {"network": {"kind": "network", "widths": [8], "steps": 100_000, "lr": 1e-3}}}
    asked = threading.Timer(2.0, lambda: os.kill(os.getpid(), signal.SIGINT))
    asked.start()
    with pytest.raises(KeyboardInterrupt, match="stopped by SIGINT"):
        JointSearch(task="normals", methods=methods, found=str(path)).run()
    asked.join()
    assert not path.exists()


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

    def ask(task: Any, settings: Any, labels: str, balanced: bool, seed: int) -> Any:
        return None if seed == 8 else (settings["kind"], labels, seed)

    monkeypatch.setattr(runs, "side_by_side", backwards)
    methods = {"3": {"a": {"kind": "A", "temperature": 2.0}, "b": {"kind": "B"}}, "4": {"a": {"kind": "C"}}}
    found = list(runs.by_method(ask, _two_normals("test"), methods, balanced=True, seeds=(7, 8), jobs=2))
    assert found == [
        ("3", "a", [("A", "3", 7), None]),
        ("3", "b", [("B", "3", 7), None]),
        ("4", "a", [("C", "4", 7), None]),
    ]


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
        compared, _ = JointComparison(task="normals", methods=chosen, seeds=(0, 1), jobs=jobs).run()
        return {"chosen": chosen, "nll": compared["nll"], "ece": compared["ece"]}

    assert scores(2) == scores(1)
    with pytest.raises(ValueError, match="jobs"):
        JointComparison(task="normals", methods=methods, jobs=0)


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


def test_tilted_coordinates_change_nothing_before_training() -> None:
    """Whitened rows, the base in them and the network behind them are the base over the rows, up to the volume."""
    task = _two_normals("test")
    y = labelled_at_random(task.y, 30, balanced=True, seed=0)
    untrained = Network(base=True, widths=(8,), steps=1, lr=1e-12).fit(task.x, y, classes=2, seed=0)
    classes = method({"kind": "normal_classes"}).fit(task.x, y, classes=2, seed=0)
    difference = untrained.logits(task.x_judged) - classes.logits(task.x_judged)
    assert float(difference.std()) < 1e-4  # one constant for all rows and classes


def _images(judged_on: str) -> Task:
    """Bright left halves and bright right halves."""
    source = torch.Generator().manual_seed(0 if judged_on == "validation" else 1)
    y = torch.arange(300) % 2
    x = 0.2 * torch.randn(300, 1, 8, 8, generator=source) - 0.5
    left, right = x[:, 0, :, :4], x[:, 0, :, 4:]
    left[y == 0] += 1
    right[y == 1] += 1
    return Task(x[:200], y[:200], x[200:], y[200:], 2)


def test_rows_outside_are_told_by_every_score(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tasks.TASKS, "halves", _images)
    monkeypatch.setitem(tasks.IMAGES, "halves", (1, 8, 8))
    both_dark = torch.full((60, 1, 8, 8), -0.9)
    monkeypatch.setitem(outside.OUTSIDE, "dark", lambda task: both_dark)
    small = {"kind": "network", "widths": [8], "steps": 60, "batch": 32, "labelled": 32, "ema": 0.9}
    vera = small | {"marginal": "vera", "latent": 2, "generator_channels": [8], "first_moment": 0.0}
    experiment = JointOutside(
        task="halves",
        outside=["dark"],
        methods={"all": {"supervised": small, "vera": vera}},
        samples_of="vera",
        seeds=(0, 1),
    )
    figures, picture = experiment.run()
    for key in ("auroc", "average_precision", "missed_at_95"):
        assert set(figures[key]["dark"]) == {"max_probability", "energy", "gradient_norm"}
        for by_method in figures[key]["dark"].values():
            assert set(by_method) == {"supervised", "vera"}
            assert all(0 <= found["mean"] <= 1 and len(found["seeds"]) == 2 for found in by_method.values())
    assert figures["accuracy"]["supervised"]["mean"] > 0.95
    # a supervised network is least sure of what is neither half
    assert figures["auroc"]["dark"]["max_probability"]["supervised"]["mean"] > 0.9
    # a density of halves does not hold what has none
    assert figures["auroc"]["dark"]["energy"]["vera"]["mean"] > 0.9
    assert isinstance(picture, Figure)


def test_a_long_training_goes_on_where_it_was_stopped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(tasks.TASKS, "halves", _images)
    monkeypatch.setitem(tasks.IMAGES, "halves", (1, 8, 8))
    settings: dict[str, Any] = {
        "task": "halves",
        "depth": 10,
        "widen": 1,
        "latent": 2,
        "generator_channels": [4],
        "entropy_samples": 2,
        "classification": 1.0,
        "lr": 1e-3,
        "warmup": 2,
        "batch": 8,
        "steps": 6,
        "shift": 1,
        "every": 2,
        "held_out": 50,
        "ema": 0.5,
        "device": "cpu",
    }
    whole, picture = JointTraining(folder=str(tmp_path / "whole"), **settings).run()
    assert [look["step"] for look in whole["held_out_curve"]] == [2, 4, 6]
    assert whole["stopped"] == "completed"
    assert isinstance(picture, Figure)
    parts = [JointTraining(folder=str(tmp_path / "parts"), minutes=1e-9, **settings).run()[0] for _ in range(6)]
    assert [found["steps"] for found in parts] == [1, 2, 3, 4, 5, 6]
    assert all("minutes are over" in found["stopped"] for found in parts[:5])
    for key in ("accuracy", "nll", "ece"):
        assert parts[-1][key] == whole[key]  # bit for bit
        assert parts[-1]["held_out_curve"][-1][key] == whole["held_out_curve"][-1][key]
    assert whole["nll"] != whole["held_out_curve"][-1]["nll"]  # other rows
    assert parts[-1]["seconds_of_training"] > parts[0]["seconds_of_training"]
    assert "'step': 6" in capsys.readouterr().out


def test_augmented_images_are_shifted_or_mirrored_and_every_way_occurs() -> None:
    source = torch.Generator().manual_seed(0)
    image = torch.randn(1, 2, 4, 5)
    drawn = augmented(image.expand(400, -1, -1, -1), shift=1, noise=0.0, generator=source)
    padded = np.pad(image[0].numpy(), ((0, 0), (1, 1), (1, 1)), mode="reflect")
    ways = [
        padded[:, i : i + 4, j : j + 5][:, :, ::step] for i in range(3) for j in range(3) for step in (1, -1)
    ]  # 18 equally likely ones
    counts = [sum(np.array_equal(one, way) for one in drawn.numpy()) for way in ways]
    assert sum(counts) == 400 and min(counts) > 5 and max(counts) < 50
    noised = augmented(image.expand(400, -1, -1, -1), shift=0, noise=0.5, generator=source)
    straight, turned = noised - image, noised - image.flip(3)
    least = torch.minimum(straight.flatten(1).norm(dim=1), turned.flatten(1).norm(dim=1))
    assert float((least.square() / 40).mean()) == pytest.approx(0.25, rel=0.1)


def test_what_has_no_energy_or_no_samples_is_refused() -> None:
    network = {"all": {"a": {"kind": "network"}}}
    for methods, names, samples, words in (
        ({"all": {"a": {"kind": "discriminant"}}}, ["mnist"], "a", "only networks have energies"),
        (network, ["cats"], "a", "outside must be some of"),
        (network, [], "a", "outside must be some of"),
        (network, ["mnist"], "b", "samples_of must be a method with a generator"),
        (network, ["mnist"], "a", "samples_of must be a method with a generator"),
    ):
        with pytest.raises(ValueError, match=words):
            JointOutside(task="fashion", outside=names, methods=methods, samples_of=samples)
    vera = {"all": {"a": {"kind": "network", "marginal": "vera"}}}
    for task, words in (("har", "task must be one of fashion"), ("cifar10", "mnist has other images than cifar10")):
        with pytest.raises(ValueError, match=words):
            JointOutside(task=task, outside=["mnist"], methods=vera, samples_of="a")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: method({"kind": "forest"}), "kind must be one of logistic_regression, .*got 'forest'"),
        (lambda: method({"kind": "network", "lrr": 1.0}), "network: .*lrr"),
        (
            lambda: method({"kind": "network", "marginal": "denoising", "noise": 0.0, "activation": "silu"}),
            "noise must",
        ),
        (lambda: method({"kind": "network", "marginal": "denoising"}), "use silu"),
        (lambda: method({"kind": "network", "marginal": "verra"}), "marginal must be one of none"),
        (lambda: method({"kind": "network", "noise": 0.1}), "noise would do nothing here"),
        (lambda: method({"kind": "network", "base_em_steps": 2}), "base_em_steps would do nothing here"),
        (lambda: method({"kind": "network", "marginal_rows": 2}), "marginal_rows would do nothing here"),
        (lambda: method({"kind": "network", "adversarial_probe": 2.0}), "adversarial_probe would do nothing here"),
        (lambda: method({"kind": "network", "precision": "fp16"}), "precision must be 'fp32' or 'bf16', got 'fp16'"),
        (lambda: method({"kind": "network", "marginal": "sgld", "marginal_rows": 0}), "marginal_rows"),
        (
            lambda: method({"kind": "network", "marginal": "sgld", "marginal_rows": 8, "batch": 8}),
            "marginal_rows of 8 are all 8 of the batch; leave it out",
        ),
        (
            lambda: method({"kind": "network", "adversarial_radius": 1.0, "precision": "bf16"}),
            "bf16 rounds a probe of 0.01 away beside a radius of 1.0; make it as long as the radius",
        ),
        (
            lambda: method({"kind": "normal_classes", "em_steps": 0, "shrinkage": 0.1}),
            "shrinkage would do nothing here",
        ),
        (
            lambda: method({"kind": "network", "base": True, "base_em_steps": 0, "base_shrinkage": 0.1}),
            "base_shrinkage would do nothing here",
        ),
        (lambda: method({"kind": "network", "base": True, "base_temperature": -1.0}), "base_temperature must"),
        (lambda: method({"kind": "network", "base": True, "base_shrinkage": 7.0}), "shrinkage must"),
        (lambda: method({"kind": "network", "widths": []}), "width must"),
        (lambda: method({"kind": "network", "activation": "nope"}), "activation must"),
        (lambda: method({"kind": "network", "marginal": "sgld", "restarts": 2.0}), "restarts must"),
        (lambda: method({"kind": "network", "marginal": "vera", "entropy_samples": -3}), "entropy_samples must"),
        (lambda: method({"kind": "normal_classes", "em_steps": 1.5}), "em_steps must"),
        (lambda: method({"kind": "network", "steps": 0}), "steps must"),
        (lambda: method({"kind": "label_spreading", "alpha": 1.0}), "alpha must"),
        (lambda: method({"kind": "discriminant", "self_training": 2.0}), "self_training must"),
        (lambda: JointComparison(task="nope", methods={"all": {"a": {"kind": "discriminant"}}}), "task must be one of"),
        (lambda: JointComparison(task="har", methods={}), "methods is empty"),
        (lambda: JointComparison(task="har", methods={"few": {}}), "by number of labels"),
        (lambda: JointComparison(task="har", methods={"10": {}}), r"methods\.10 is empty"),
        (lambda: JointTraining(task="har"), "task must be one of fashion"),
        (lambda: JointTraining(shift=1.5), "shift must"),
        (lambda: JointTraining(betas=(0.0,)), "betas are two numbers"),
        (lambda: JointTraining(ema=3.0), "ema must"),
        (lambda: JointTraining(depth=27), "depth must be 6n"),
        (lambda: JointTraining(minutes=0.0), "minutes must"),
        (lambda: JointTraining(seeds=(0, 1)), "one seed at a time"),
        (lambda: JointTraining(precision="fp16"), "precision must"),
        (lambda: JointSearch(task="har", methods={"all": {"a": {"kind": "discriminant"}}}, budget=0), "budget must"),
    ],
)
def test_settings_out_of_range_are_refused(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


@needs_data
def test_activities_are_held_out_by_person_and_scaled_by_what_is_learned_from() -> None:
    train, test = load_task("har", "validation"), load_task("har", "test")
    assert len(train.x) + len(train.x_judged) == len(test.x) == 7415 and len(test.x_judged) == 2996
    torch.testing.assert_close(train.x.mean(0), torch.zeros(561), atol=1e-4, rtol=0)
    torch.testing.assert_close(test.x.std(0), torch.ones(561), atol=1e-3, rtol=0)
    with np.load(data_dir() / "har561.npz") as file:  # type: ignore[operator]
        persons, first = file["subject_train"], file["x_train"][:, 0]
    learned = set(persons[np.isin(persons, np.unique(persons)[::4], invert=True)])
    assert len(learned) + len(set(persons) - learned) == len(set(persons)) and len(set(persons) - learned) >= 5
    rows = first[np.isin(persons, list(learned))]
    np.testing.assert_allclose(train.x[:, 0], (rows - rows.mean()) / rows.std(ddof=1), atol=1e-4)


@needs_data
def test_the_census_is_numbers_and_indicators() -> None:
    task = load_task("adult", "test")
    assert len(task.x) == 32561 and len(task.x_judged) == 16281 and task.x.shape[1] == task.x_judged.shape[1]
    assert float(task.y.double().mean()) == pytest.approx(7841 / 32561)
    torch.testing.assert_close(task.x[:, :6].mean(0), torch.zeros(6), atol=1e-3, rtol=0)
    indicators = task.x[:, 6:]
    assert set(indicators.unique().tolist()) == {0.0, 1.0}
    assert indicators.sum(1).unique().tolist() == [8.0]  # one of every categorical column, missing cells too
    part = load_task("adult", "validation")
    assert len(part.x) + len(part.x_judged) == 32561 and abs(len(part.x_judged) / 32561 - 0.25) < 0.01
    torch.testing.assert_close(part.x[:, :6].mean(0), torch.zeros(6), atol=1e-5, rtol=0)
    assert float(part.x_judged[:, :6].mean(0).abs().max()) > 1e-4  # by the other rows' scales


@needs_data
@pytest.mark.parametrize(("name", "event", "low", "high"), [("mnist", (784,), 0, 1), ("fashion", (1, 28, 28), -1, 1)])
def test_images_are_held_out_from_the_end(name: str, event: tuple[int, ...], low: float, high: float) -> None:
    train, test = load_task(name, "validation"), load_task(name, "test")
    assert train.x.shape == (50_000, *event) and test.x_judged.shape == (10_000, *event)
    assert torch.equal(train.x_judged, test.x[50_000:]) and torch.equal(train.y, test.y[:50_000])
    assert float(train.x.min()) == low and float(train.x.max()) == high


@pytest.mark.parametrize("path", sorted(ROOT.glob("recipes/jem_*/search.toml")), ids=lambda path: path.parent.name)
def test_recipes_have_the_settings_that_their_search_chose(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = ROOT / "results" / f"{path.parent.name}_search.json"
    config = path.with_name("config.toml")
    settings = tomllib.loads(path.read_text())
    assert settings.pop("experiment") == "joint_search"
    JointSearch(**settings)
    if not config.is_file():
        pytest.skip("the search has not been made yet")
    figures = json.loads(record.read_text())["figures"]
    compared = tomllib.loads(config.read_text())
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.chosen import config_of

    assert compared == config_of(settings, figures, compared)  # refuses another search than the recipe's
    assert compared["task"] == settings["task"] and compared.get("balanced") == settings.get("balanced")
    kind = {"joint_comparison": JointComparison, "joint_outside": JointOutside}[compared.pop("experiment")]
    kind(**compared)
    assert not set(compared.get("seeds", range(5))) & set(settings.get("seeds", (100, 101)))
