"""Classes of a table's rows from few labels, with probabilities that mean what they say."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, column_or_1d

from ..tables import Schema
from .base import TableEstimator
from .classifier_model import ClassifierModel, ClassifierSettings

__all__ = ["JointEnergyClassifier"]

_SURELY_CLASSES = 50  # however few rows there are


class JointEnergyClassifier(ClassifierMixin, TableEstimator[ClassifierModel]):
    r"""A classifier whose logits are an energy of the rows too, so that rows without labels teach it.

    .. math:: p(y \mid x) = \operatorname{softmax} f(x), \qquad E(x) = -\log \sum_y e^{f_y(x)}

    Logits start at a logistic regression on piecewise linear functions of numbers and on categories, and a perceptron is
    added to them. Cross-entropy trains it on labelled rows, energy discrepancy on all (Grathwohl et al., ICLR 2020, arXiv
    1912.03263; Schroeder et al., NeurIPS 2023, arXiv 2307.06431), as long as held-out labels gain more than their error:
    where they gain nothing, classes stay with the regression. Two hundred held-out labels also tell the temperature of what
    was trained (Guo et al., ICML 2017, arXiv 1706.04599). A second perceptron moves all logits alike and no probability; when
    classes are done, it is trained to the rows alone.

    Args:
        marginal_weight: of the rows' density beside the cross-entropy; 0 for a classifier only.
        hidden_layer_sizes: of the perceptron.
        noise: standard deviation of the perturbation of numbers, in units of their scaled columns.
        n_draws: perturbed rows that each row is contrasted with.
        max_iter: steps of training with labels at most; half as many follow without.
        batch_size: rows of a step that the density is trained on; of labelled ones there are twice as many.
        learning_rate: the first; it falls to 0 by a cosine.
        n_iter_no_change: looks at the held-out labels, one every fifty steps, that may gain nothing; ``None``: all.
        validation_fraction: of the labelled rows, held out; raised to fifty of them, but not above a quarter. Where these
            would be fewer than four, none is, and classes stay with the regression. 0: training goes on to ``max_iter``.
        schema: of the columns, or ``None`` to infer it: see :meth:`chainfree.tables.Schema.infer`.
        device: of the network.
        random_state: seed of all of it.
        verbose: whether a progress bar is shown.

    Attributes:
        classes_: in the order of the probabilities.
        n_iter_: steps of training with labels.
        n_features_in_, feature_names_in_: as scikit-learn has them.

    >>> import numpy as np
    >>> rows = np.random.default_rng(0).normal(size=(200, 2))
    >>> y = np.where(rows[:, 0] > 0, 1, 0)
    >>> y[20:] = -1  # unknown
    >>> classifier = JointEnergyClassifier(max_iter=20, random_state=0).fit(rows, y)
    >>> classifier.predict([[-1.0, 0.0], [1.0, 0.0]])
    array([0, 1])
    """

    _model_class = ClassifierModel

    def __init__(
        self,
        *,
        marginal_weight: float = 0.1,
        hidden_layer_sizes: tuple[int, ...] = (256, 256),
        noise: float = 0.7,
        n_draws: int = 8,
        max_iter: int = 2000,
        batch_size: int = 128,
        learning_rate: float = 1e-3,
        n_iter_no_change: int | None = 10,
        validation_fraction: float = 0.1,
        schema: Schema | None = None,
        device: str = "cpu",
        random_state: Any = None,
        verbose: int | bool = 0,
    ) -> None:
        self.marginal_weight = marginal_weight
        self.hidden_layer_sizes = hidden_layer_sizes
        self.noise = noise
        self.n_draws = n_draws
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.n_iter_no_change = n_iter_no_change
        self.validation_fraction = validation_fraction
        self.schema = schema
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any) -> Self:
        """Fit to rows and their classes.

        Args:
            X: table.
            y: classes, ``(N,)``; -1, NaN or ``None`` where there is none. Where all are -1 or one other number, these two
                are the classes.

        Raises:
            ValueError: a table or classes that cannot be read, fewer than two classes, or a setting out of its range.
            TrainingDivergedError: training did not come to an end.
        """
        table, schema = self._read_to_fit(X)
        labels = self._classes_of(y)
        check_consistent_length(table, labels)
        self.model_ = ClassifierModel.fit(
            table,
            labels,
            schema,
            ClassifierSettings(
                widths=tuple(self.hidden_layer_sizes),
                noise=self.noise,
                draws=self.n_draws,
                marginal_weight=self.marginal_weight,
                steps=self.max_iter,
                batch=self.batch_size,
                labelled=2 * self.batch_size,
                lr=self.learning_rate,
                patience=self.n_iter_no_change,
                held_out=self.validation_fraction,
            ),
            seed=self._seed(),
            device=self.device,
            callbacks=self._callbacks(),
        )
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Probabilities of :attr:`classes_`, ``(N, K)``."""
        table = self._read(X)
        return self.model_.probabilities(table)

    def predict(self, X: Any) -> NDArray[Any]:
        """Likeliest classes, ``(N,)``."""
        likeliest = self.predict_proba(X).argmax(1)
        return np.asarray(self.classes_[likeliest])

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """Log-density of rows in nats up to a constant, ``(N,)``: low where a row is like none that was fitted.

        It means something where ``marginal_weight`` is above 0.
        """
        table = self._read(X)
        return -np.asarray(self.model_.energies(table))

    def _classes_of(self, y: Any) -> NDArray[np.int64]:
        """Places in :attr:`classes_`, which this sets; -1 where there is no label."""
        if y is None:
            raise ValueError(f"This {type(self).__name__} estimator requires y to be passed, but the target y is None.")
        values = column_or_1d(y, warn=True)
        unknown = np.asarray(pd.isna(values))
        if values.dtype.kind in "if":
            unknown = unknown | (values == -1) & _has_others(values, unknown)
        cells = values[~unknown].tolist()
        if values.dtype == object and any(isinstance(cell, str) for cell in cells) and -1 in cells:
            raise ValueError("y has -1 among text; give None where there is no label")
        known = np.array(cells)  # of objects with holes, what they are without these
        if not len(known):
            raise ValueError("no row has a label; give y a class in some rows")
        check_classification_targets(known)
        self.classes_, codes = np.unique(known, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"Classifier can't train when only one class is present: {self.classes_[0]}.")
        if len(self.classes_) > max(_SURELY_CLASSES, len(known) // 2):
            raise ValueError(
                f"y has {len(self.classes_)} values in {len(known)} rows with a label, as a number or an identifier has; "
                "give classes"
            )
        labels = np.full(len(values), -1, dtype=np.int64)
        labels[~unknown] = codes
        return labels

    def _to_save(self) -> dict[str, Any]:
        return {"classes": self.classes_.tolist()}

    def _take_up(self, more: dict[str, Any]) -> None:
        self.classes_ = np.array(more["classes"])


def _has_others(values: NDArray[Any], unknown: NDArray[np.bool_]) -> bool:
    """Whether there are two classes beside -1; classes of -1 and 1 are classes."""
    return len(np.unique(values[~unknown & (values != -1)])) > 1
