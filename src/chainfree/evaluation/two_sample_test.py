"""The classifier two-sample test: can a classifier tell two sets of samples apart?

Lopez-Paz, Oquab, "Revisiting Classifier Two-Sample Tests", ICLR 2017, arXiv 1610.06545. Vovk, Wang, "Combining p-values via
averaging", Biometrika 107(4), 2020, arXiv 1212.4966.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from .rows import flat_pair

__all__ = ["Discriminator", "TwoSampleTest", "classifier_two_sample_test"]

Discriminator = Literal["gradient_boosting", "logistic"]


class TwoSampleTest(NamedTuple):
    """How well rows that the classifier has not seen are told apart.

    Args:
        accuracy: mean of the two sets' shares of rows that are recognised; 0.5 is chance, whatever the sets' sizes.
        auc: area under the ROC curve; 0.5 is chance.
        p_value: of the hypothesis that the sets have one law.
    """

    accuracy: float
    auc: float
    p_value: float


def classifier_two_sample_test(
    x: Tensor, y: Tensor, *, seed: int, classifier: Discriminator = "gradient_boosting", folds: int = 5
) -> TwoSampleTest:
    """Train a classifier of scikit-learn on all folds but one, and let it tell the rows of that one apart; for every fold.

    Each fold has a p-value, of the Mann-Whitney test of the classifier's scores. The folds depend on each other through
    what the classifiers are trained on, and pooled as if they did not they reject equal laws up to twice too often; twice
    the mean of their p-values is a p-value under any dependence (Vovk and Wang), and a careful one.

    Args:
        x: samples, ``(N, *event)``; flattened.
        y: samples, ``(M, *event)``. Of the training rows' copies in ``x`` no test knows: give rows held out.
        seed: of the folds and of the classifier.
        classifier: ``"gradient_boosting"``, histogram-based trees; or ``"logistic"``, a regression on standardised features,
            which sees a difference of means only.
        folds: at least 2, and no more than each set has rows. Fewer have more power each, and classifiers that know less.

    Raises:
        ValueError: rows that are not finite floats of one shape, fewer than ``folds``, or an unknown classifier.

    >>> import torch
    >>> x = torch.linspace(0, 1, 40).unsqueeze(1)
    >>> classifier_two_sample_test(x, x + 5, seed=0, classifier="logistic").accuracy
    1.0
    """
    if classifier not in get_args(Discriminator):
        raise ValueError(f"classifier must be one of {', '.join(get_args(Discriminator))}, got {classifier!r}")
    if not isinstance(folds, int) or folds < 2:
        raise ValueError(f"folds must be a whole number of at least 2, got {folds!r}")
    a, b = flat_pair("x", x, "y", y, least=folds)
    rows, labels = np.concatenate([a, b]), np.repeat([0, 1], [len(a), len(b)])
    guesses = np.empty(len(rows), dtype=int)
    aucs, p_values = [], []
    for seen, left in StratifiedKFold(folds, shuffle=True, random_state=seed).split(rows, labels):
        fitted = _classifier(classifier, seed).fit(rows[seen], labels[seen])
        score = fitted.predict_proba(rows[left])[:, 1]
        guesses[left] = score > 0.5
        aucs.append(float(roc_auc_score(labels[left], score)))
        p_values.append(_mann_whitney(score, labels[left]))
    accuracy = float(balanced_accuracy_score(labels, guesses))
    return TwoSampleTest(accuracy, float(np.mean(aucs)), min(1.0, 2 * float(np.mean(p_values))))


def _classifier(kind: Discriminator, seed: int) -> Any:
    if kind == "logistic":
        return make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))
    return HistGradientBoostingClassifier(class_weight="balanced", random_state=seed)


def _mann_whitney(score: NDArray[np.float64], labels: NDArray[np.int_]) -> float:
    """The one-sided p-value of scores that are higher where the label is 1, with the variance that ties leave."""
    count, ones = len(labels), int(labels.sum())
    ranks = rankdata(score)
    variance = ones * (count - ones) / count * float(ranks.var(ddof=1))
    if variance == 0:
        return 1.0  # all rows look alike to the classifier
    return float(norm.sf((ranks[labels == 1].sum() - ones * (count + 1) / 2) / np.sqrt(variance)))
