"""The classifier two-sample test: level under one law, power, and what it leaves alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from chainfree.evaluation import classifier_two_sample_test
from chainfree.evaluation.two_sample_test import _mann_whitney


def normals(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("classifier", ["gradient_boosting", "logistic"])
def test_far_apart_is_told_apart(classifier: Any) -> None:
    x, y = normals(150, 2, seed=0), normals(150, 2, seed=1) + 4
    found = classifier_two_sample_test(x, y, seed=0, classifier=classifier)
    assert found.accuracy > 0.98
    assert found.auc > 0.99
    assert found.p_value < 1e-6


def test_one_law_is_at_chance_and_rejected_no_more_often_than_said() -> None:
    found = [
        classifier_two_sample_test(
            normals(60, 3, seed=2 * s), normals(60, 3, seed=2 * s + 1), seed=s, classifier="logistic", folds=3
        )
        for s in range(40)
    ]
    assert np.mean([f.accuracy for f in found]) == pytest.approx(0.5, abs=0.03)
    assert np.mean([f.auc for f in found]) == pytest.approx(0.5, abs=0.03)
    assert np.mean([f.p_value <= 0.05 for f in found]) <= 0.1
    assert min(f.p_value for f in found) < 0.5  # and it can be below


def test_the_accuracy_of_a_known_shift_is_that_of_the_best_rule() -> None:
    # two normals at distance d are told apart at best with probability Phi(d / 2)
    x, y = normals(3000, 2, seed=0), normals(3000, 2, seed=1) + torch.tensor([1.0, 0.0])
    found = classifier_two_sample_test(x, y, seed=0, classifier="logistic")
    assert found.accuracy == pytest.approx(stats.norm.cdf(0.5), abs=0.02)
    assert found.auc == pytest.approx(stats.norm.cdf(1 / np.sqrt(2)), abs=0.02)


def test_unequal_sizes_leave_chance_at_a_half() -> None:
    found = classifier_two_sample_test(normals(400, 2, seed=0), normals(40, 2, seed=1), seed=0, classifier="logistic")
    assert found.accuracy == pytest.approx(0.5, abs=0.12)


def test_trees_see_what_a_difference_of_means_does_not() -> None:
    x, y = normals(300, 2, seed=0), 3 * normals(300, 2, seed=1)
    assert classifier_two_sample_test(x, y, seed=0).p_value < 1e-3
    assert classifier_two_sample_test(x, y, seed=0, classifier="logistic").accuracy < 0.6


@pytest.mark.parametrize("ties", [False, True])
def test_each_folds_p_value_is_scipys(ties: bool) -> None:
    score, labels = normals(41, seed=0).numpy(), np.repeat([0, 1], [20, 21])
    score[20:] += 0.4
    if ties:
        score = score.round()
    expected = stats.mannwhitneyu(
        score[20:], score[:20], alternative="greater", use_continuity=False, method="asymptotic"
    )
    assert _mann_whitney(score, labels) == pytest.approx(expected.pvalue, rel=1e-10)


def test_rows_that_are_all_equal_are_at_chance() -> None:
    found = classifier_two_sample_test(torch.ones(20, 2), torch.ones(20, 2), seed=0)
    assert found == (0.5, 0.5, 1.0)


def test_the_seed_decides_and_the_callers_state_stays() -> None:
    x, y = normals(60, 1, 2, seed=0), normals(60, 1, 2, seed=1) + 0.3
    before, state = x.clone(), torch.get_rng_state()
    numpys = np.random.get_state()[1].copy()  # type: ignore[index,union-attr]
    first = classifier_two_sample_test(x, y, seed=0)
    assert classifier_two_sample_test(x, y, seed=0) == first
    assert classifier_two_sample_test(x, y, seed=1) != first
    assert torch.equal(x, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == numpys).all()  # type: ignore[index]


@pytest.mark.parametrize(
    ("x", "y", "options", "words"),
    [
        (torch.zeros(9, 2), torch.zeros(9, 3), {}, "rows of one shape"),
        (torch.zeros(4, 2), torch.zeros(9, 2), {}, "x must have at least 5 rows, got 4"),
        (torch.zeros(9, 2), torch.full((9, 2), torch.nan), {}, "y has NaN"),
        (torch.zeros(9, 2), torch.zeros(9, 2), {"classifier": "svm"}, "classifier must be one of"),
        (torch.zeros(9, 2), torch.zeros(9, 2), {"folds": 1}, "folds must be a whole number of at least 2"),
    ],
)
def test_it_refuses(x: Tensor, y: Tensor, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        classifier_two_sample_test(x, y, seed=0, **options)
