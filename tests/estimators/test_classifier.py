"""Classes of tables: few labels, probabilities, rows of no class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import make_moons
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from chainfree.estimators import JointEnergyClassifier
from chainfree.estimators.classifier_model import Logits


def _people(n: int, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """A class that depends on a product of columns, which nothing linear in them can tell, and is never quite sure."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"x": rng.normal(size=n), "z": rng.normal(size=n), "town": rng.choice(["a", "b"], n)})
    sign = np.where(frame["town"] == "a", 1.0, -1.0)
    logit = 3 * frame["x"] * sign + frame["z"]
    return frame, np.where(rng.random(n) < 1 / (1 + np.exp(-logit)), "yes", "no")


def test_what_no_linear_function_tells_is_told_and_probabilities_mean_what_they_say() -> None:
    frame, y = _people(3000, 0)
    new, y_new = _people(4000, 1)
    classifier = JointEnergyClassifier(hidden_layer_sizes=(64, 64), max_iter=600, random_state=0).fit(frame, y)
    assert classifier.classes_.tolist() == ["no", "yes"]
    probabilities = classifier.predict_proba(new)
    np.testing.assert_allclose(probabilities.sum(1), 1.0)
    sign = np.where(new["town"] == "a", 1.0, -1.0)
    best = 1 / (1 + np.exp(-(3 * new["x"] * sign + new["z"])))
    assert log_loss(y_new, probabilities[:, 1]) < log_loss(y_new, best) + 0.03
    assert np.abs(probabilities[:, 1] - best).mean() < 0.06
    linear = LogisticRegression().fit(pd.get_dummies(frame), y).score(pd.get_dummies(new), y_new)
    assert classifier.score(new, y_new) > linear + 0.1
    assert (classifier.predict(new) == classifier.classes_[probabilities.argmax(1)]).all()


@pytest.mark.parametrize("unknown", [-1, np.nan])
def test_rows_without_a_label_count_for_the_density_only(unknown: float) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": np.r_[rng.normal(-2, 1, 300), rng.normal(2, 1, 300)], "z": rng.normal(size=600)})
    y = np.repeat([0.0, 1.0], 300)
    few = np.where(np.isin(np.arange(600) % 300, range(5)), y, unknown)
    classifier = JointEnergyClassifier(hidden_layer_sizes=(32,), max_iter=300, marginal_weight=1.0, random_state=0)
    classifier.fit(frame, few)
    assert classifier.classes_.tolist() == [0.0, 1.0]
    assert classifier.score(frame, y) > 0.9  # of 0.977
    far = pd.DataFrame({"x": [0.0] * 100, "z": rng.choice([-6.0, 6.0], 100)})
    scores = np.r_[classifier.score_samples(frame), classifier.score_samples(far)]
    assert roc_auc_score(np.r_[np.ones(600), np.zeros(100)], scores) > 0.9


def test_rows_alone_change_no_probability() -> None:
    frame, y = _people(400, 0)
    few = np.where(np.arange(400) < 10, y, None)
    settings = {"hidden_layer_sizes": (16,), "random_state": 0}
    classes_only = JointEnergyClassifier(marginal_weight=0.0, max_iter=60, **settings).fit(frame, few)
    both = JointEnergyClassifier(marginal_weight=1.0, max_iter=60, **settings).fit(frame, few)
    # no label is held out: classes are the regression's
    assert both.n_iter_ == 0
    np.testing.assert_allclose(both.predict_proba(frame), classes_only.predict_proba(frame), atol=1e-6)
    assert np.abs(both.score_samples(frame) - classes_only.score_samples(frame)).max() > 0.1


def test_luck_of_few_held_out_labels_is_no_reason_to_train() -> None:
    """The regression is the truth: what a step gains on thirty held-out labels is luck, which some step has."""
    trained = 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        rows = rng.normal(size=(300, 5))
        y = (rows[:, 0] + 2 * rng.logistic(size=300) > 0).astype(int)
        classifier = JointEnergyClassifier(
            marginal_weight=0.0, hidden_layer_sizes=(64, 64), max_iter=200, learning_rate=3e-4, random_state=seed
        ).fit(rows, y)
        logits = classifier.model_.energy.network
        assert isinstance(logits, Logits)
        with torch.no_grad():
            trained += bool(logits.of_classes(torch.randn(9, 5)).abs().max() > 0)
    assert trained <= 1


def test_twenty_labels_and_what_they_bend_around() -> None:
    """Two moons: no sum over columns tells them."""
    x, y = make_moons(600, noise=0.1, random_state=0)
    new, y_new = make_moons(1000, noise=0.1, random_state=1)
    few = np.where(np.arange(600) < 40, y, -1)
    classifier = JointEnergyClassifier(hidden_layer_sizes=(64, 64), max_iter=500, random_state=0).fit(x, few)
    assert classifier.score(new, y_new) > 0.95


@pytest.mark.parametrize("fraction", [0.1, 0.0])
def test_short_trainings_count(fraction: float) -> None:
    """Fewer steps than there are between two looks."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2000, 2))
    y = (rows[:, 0] * rows[:, 1] > 0).astype(int)
    classifier = JointEnergyClassifier(
        validation_fraction=fraction, marginal_weight=0.0, max_iter=49, learning_rate=1e-2, random_state=0
    ).fit(rows, y)
    assert classifier.n_iter_ == 49
    assert classifier.score(rows, y) > 0.8


@pytest.mark.parametrize("fraction", [0.1, 0.0])
def test_no_steps_leave_the_regression(fraction: float) -> None:
    frame, y = _people(300, 0)
    classifier = JointEnergyClassifier(
        validation_fraction=fraction, hidden_layer_sizes=(8,), max_iter=0, random_state=0
    ).fit(frame, y)
    assert classifier.n_iter_ == 0 and classifier.score(frame, y) > 0.5


def test_text_may_be_missing() -> None:
    frame, y = _people(200, 0)
    some = np.where(np.arange(200) < 60, y, None)
    classifier = JointEnergyClassifier(hidden_layer_sizes=(8,), max_iter=10, random_state=0).fit(frame, some)
    assert classifier.classes_.tolist() == ["no", "yes"]


def test_minus_one_and_one_are_classes() -> None:
    rows = np.random.default_rng(0).normal(size=(60, 2))
    y = np.where(rows[:, 0] > 0, 1, -1)
    classifier = JointEnergyClassifier(hidden_layer_sizes=(8,), max_iter=10, random_state=0).fit(rows, y)
    assert classifier.classes_.tolist() == [-1, 1]


def test_refusals() -> None:
    frame, y = _people(50, 0)
    with pytest.raises(ValueError, match="requires y to be passed, but the target y is None"):
        JointEnergyClassifier().fit(frame, None)
    with pytest.raises(ValueError, match="no row has a label"):
        JointEnergyClassifier().fit(frame, [None] * 50)
    with pytest.raises(ValueError, match="only one class is present: yes"):
        JointEnergyClassifier().fit(frame, ["yes"] * 50)
    with pytest.raises(ValueError, match="y has 120 values in 120 rows with a label, as a number or an identifier has"):
        JointEnergyClassifier().fit(np.zeros((120, 1)), np.arange(120))
    with pytest.raises(ValueError, match="y has -1 among text; give None where there is no label"):
        JointEnergyClassifier().fit(frame, np.array(["yes"] * 49 + [-1], dtype=object))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        JointEnergyClassifier().fit(frame, y[:40])


def test_classes_of_numbers_may_be_none_too() -> None:
    rows = np.random.default_rng(0).normal(size=(60, 2))
    y = np.array([1 if x > 0 else 0 for x in rows[:, 0]], dtype=object)
    y[30:] = None
    classifier = JointEnergyClassifier(hidden_layer_sizes=(8,), max_iter=10, random_state=0).fit(rows, y)
    assert classifier.classes_.tolist() == [0, 1]


@pytest.mark.parametrize("fraction", [-0.1, 1.0])
def test_a_fraction_is_one(fraction: float) -> None:
    frame, y = _people(50, 0)
    with pytest.raises(ValueError, match=r"validation_fraction must be a number in \[0, 1\)"):
        JointEnergyClassifier(validation_fraction=fraction).fit(frame, y)


def test_scores_of_the_labels_that_chose_the_step_are_kept(tmp_path: Path) -> None:
    frame, y = _people(600, 0)
    classifier = JointEnergyClassifier(max_iter=200, hidden_layer_sizes=(16,), random_state=0).fit(frame, y)
    found = classifier.model_.held_out
    assert found is not None
    new, truth = _people(2000, 1)
    assert found.accuracy == pytest.approx((classifier.predict(new) == truth).mean(), abs=0.12)
    classifier.save(tmp_path / "model")
    assert JointEnergyClassifier.load(tmp_path / "model").model_.held_out == found
    without = JointEnergyClassifier(max_iter=5, hidden_layer_sizes=(8,), validation_fraction=0.0, random_state=0)
    assert without.fit(frame, y).model_.held_out is None
