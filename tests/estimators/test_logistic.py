"""The penalty that parts choose against scikit-learn's own search."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, RepeatedStratifiedKFold

from chainfree.estimators.logistic import chosen_penalty, logistic_regression


def _rows(n: int, classes: int, useful: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(n, 20))
    logits = 2 * features[:, :useful] @ rng.normal(size=(useful, classes))
    return features, (logits + rng.gumbel(size=(n, classes))).argmax(1)


@pytest.mark.parametrize(("n", "classes", "useful"), [(60, 2, 1), (200, 2, 4), (400, 3, 10)])
def test_it_is_that_of_a_search_over_the_same_parts(n: int, classes: int, useful: int) -> None:
    features, labels = _rows(n, classes, useful)
    grid = {"C": [0.01, 0.03, 0.1, 0.3, 1.0, 3.0]}
    folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=3, random_state=0)
    search = GridSearchCV(LogisticRegression(max_iter=1000), grid, scoring="neg_log_loss", cv=folds)
    expected = search.fit(features, labels).best_params_["C"]
    assert chosen_penalty(features, labels) == expected


def test_many_labels_and_single_rows() -> None:
    features, labels = _rows(5001, 2, 4)
    assert chosen_penalty(features, labels) == 1.0
    assert chosen_penalty(features[:5], np.array([0, 0, 0, 0, 1])) == 0.1
    assert logistic_regression(features, labels, 1.0).score(features, labels) > 0.8
