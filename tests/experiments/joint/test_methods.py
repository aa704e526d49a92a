"""Every way to learn classes, on classes that are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from scipy.stats import norm

from chainfree.evaluation import anomaly_scores, max_probability_score, outlier_scores
from chainfree.experiments import JointComparison
from chainfree.experiments.joint.marginals import MarginalSettings
from chainfree.experiments.joint.methods import METHODS, method
from chainfree.experiments.joint.networks import Network
from chainfree.experiments.joint.tasks import labelled_at_random, load_task

SMALL = {"kind": "network", "widths": [16, 16], "steps": 150, "batch": 32, "labelled": 16, "lr": 3e-3}


GAME = {"latent": 2, "generator_width": 8, "first_moment": 0.0}


CHAINS = {"marginal": "sgld", "buffer": 64, "chain_steps": 3, "step_size": 0.1, "energy_square": 0.1}


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
    task = load_task("normals", "test")
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
    task = load_task("normals", "test")
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
    task = load_task("normals", "test")
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


def test_tilted_coordinates_change_nothing_before_training() -> None:
    """Whitened rows, the base in them and the network behind them are the base over the rows, up to the volume."""
    task = load_task("normals", "test")
    y = labelled_at_random(task.y, 30, balanced=True, seed=0)
    untrained = Network(base=True, widths=(8,), steps=1, lr=1e-12).fit(task.x, y, classes=2, seed=0)
    classes = method({"kind": "normal_classes"}).fit(task.x, y, classes=2, seed=0)
    difference = untrained.logits(task.x_judged) - classes.logits(task.x_judged)
    assert float(difference.std()) < 1e-4  # one constant for all rows and classes


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("settings", [{"kind": "logistic_regression"}, {"kind": "discriminant"}])
@pytest.mark.parametrize("self_training", [{}, {"self_training": 0.9}])
def test_rows_that_a_linear_classifier_is_sure_of_are_told_apart(
    classes: int, settings: dict[str, Any], self_training: dict[str, Any]
) -> None:
    """Its logits are scikit-learn's probabilities where these do not round to one."""
    source = torch.Generator().manual_seed(0)
    y = torch.arange(400) % classes
    x = torch.randn(400, 5, generator=source)
    x[:, 0] += 4.0 * y
    hidden = torch.where(torch.arange(400) < 200, y, -1)
    fitted = method(settings | self_training).fit(x, hidden, classes=classes, seed=0)
    logits = fitted.logits(x)
    np.testing.assert_allclose(logits.softmax(1).numpy(), fitted.model.predict_proba(x.double().numpy()), atol=1e-9)  # type: ignore[attr-defined]
    far = torch.tensor([[-500.0, 0, 0, 0, 0], [-400.0, 0, 0, 0, 0]])
    furthest, near = max_probability_score(fitted.logits(far))
    assert furthest < near < -50
