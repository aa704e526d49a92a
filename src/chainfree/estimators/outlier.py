"""Outliers of a table, with p-values."""

from __future__ import annotations

import math
import warnings
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import OutlierMixin

from ..datasets import DataError
from ..evaluation import conformal_p_values, conformal_threshold
from ..evaluation.conformal import fewest_kept_out
from ..tables import Schema
from .base import TableEstimator
from .frames import in_form, infer_schema, take
from .outlier_model import OutlierModel, OutlierSettings

__all__ = ["EnergyOutlierDetector"]

_FEWEST_ROWS = 4


class EnergyOutlierDetector(OutlierMixin, TableEstimator[OutlierModel]):
    r"""Tells rows unlike those it was fitted to, and how often it would be wrong.

    .. math:: E(x) = -\frac{1 - w}{L} \sum_l \log p_l(x) - w \sum_j \log p(x_j) + f(x)

    Mixtures of several sizes, averaged in the logarithm, are low where rows are, at coarse and at fine scales; their
    components share a shape as far as their rows are few, and altogether where there are more than 128 numbers. The columns'
    own densities see a cell that is odd by itself, which is lost among many columns' fluctuations. A network f corrects
    them by at most two nats, by energy discrepancy, without chains (Schroeder et al., NeurIPS 2023, arXiv 2307.06431).

    A part of the rows is kept out of all this. Their energies make conformal p-values of new ones: the share of rows like
    the fitted ones that is called an outlier at level :math:`\\alpha` is at most :math:`\\alpha`, whatever the model.

    Args:
        contamination: share of the fitted rows that are outliers, which then sets the threshold; ``None`` where they are
            normal, as far as is known: the threshold is the conformal one at ``level``.
        level: share of normal rows that may be called outliers.
        calibration_fraction: of the rows, kept out for p-values.
        component_counts: sizes of the mixtures, each at most a fifth of the rows; above 128 numbers the largest alone.
        n_estimators: mixtures of each size, from different starts; above 128 numbers one.
        marginal_share: w, at least 0 and below 1.
        hidden_layer_sizes: of the network.
        noise: standard deviation of the perturbation of numbers, in units of their scaled columns.
        n_draws: perturbed rows that each row is contrasted with.
        max_iter: steps of training; 0 for no network.
        batch_size: rows of a step.
        learning_rate: the first; it falls to 0 by a cosine.
        schema: of the columns, or ``None`` to infer it: see :meth:`chainfree.tables.Schema.infer`.
        device: of the network.
        random_state: seed of all of it.
        verbose: whether a progress bar is shown.

    Attributes:
        offset_: of :meth:`decision_function` from :meth:`score_samples`; minus infinity where so few rows are kept out that
            none can be called an outlier at the level.
        n_iter_: steps of training.
        n_features_in_, feature_names_in_: as scikit-learn has them.

    >>> import numpy as np
    >>> rows = np.random.default_rng(0).normal(size=(300, 2))
    >>> detector = EnergyOutlierDetector(max_iter=50, random_state=0).fit(rows)
    >>> detector.predict([[0.0, 0.1], [9.0, 9.0]])
    array([ 1, -1])
    >>> detector.p_values([[9.0, 9.0]]) < 0.02
    array([ True])
    """

    _model_class = OutlierModel

    def __init__(
        self,
        *,
        contamination: float | None = None,
        level: float = 0.05,
        calibration_fraction: float = 0.2,
        component_counts: tuple[int, ...] = (5, 20, 80),
        n_estimators: int = 3,
        marginal_share: float = 1 / 3,
        hidden_layer_sizes: tuple[int, ...] = (128, 128, 128),
        noise: float = 0.3,
        n_draws: int = 8,
        max_iter: int = 120,
        batch_size: int = 256,
        learning_rate: float = 1e-3,
        schema: Schema | None = None,
        device: str = "cpu",
        random_state: Any = None,
        verbose: int | bool = 0,
    ) -> None:
        self.contamination = contamination
        self.level = level
        self.calibration_fraction = calibration_fraction
        self.component_counts = component_counts
        self.n_estimators = n_estimators
        self.marginal_share = marginal_share
        self.hidden_layer_sizes = hidden_layer_sizes
        self.noise = noise
        self.n_draws = n_draws
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.schema = schema
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit to a table's rows; ``y`` is not used.

        Raises:
            ValueError: a table that cannot be read, fewer than four rows, or a setting out of its range.
            TrainingDivergedError: training did not come to an end.
        """
        if self.contamination is not None and not 0 < self.contamination <= 0.5:
            raise ValueError(f"contamination must be above 0 and at most 0.5, or None, got {self.contamination!r}")
        if not 0 < self.level < 1:
            raise ValueError(f"level must be above 0 and below 1, got {self.level!r}")
        if not 0 < self.calibration_fraction < 1:
            raise ValueError(f"calibration_fraction must be above 0 and below 1, got {self.calibration_fraction!r}")
        if not 0 <= self.marginal_share < 1:
            raise ValueError(f"marginal_share must be at least 0 and below 1, got {self.marginal_share!r}")
        table, schema = self._read_to_fit(X)
        if len(table) < _FEWEST_ROWS:
            raise DataError(f"the table has {len(table)} rows; give at least {_FEWEST_ROWS}")
        seed = self._seed()
        # rows are drawn, not cut: tables come in some order
        order = np.random.default_rng(seed).permutation(len(table))
        kept_out = min(max(1, round(self.calibration_fraction * len(table))), len(table) - 2)
        fitted = take(table, order[kept_out:])
        if self.schema is None:
            # a row that is kept out must be as strange as a new one: its categories are not among the known
            schema = schema.with_holes_in(infer_schema(X, fitted, atoms=False))
        self.model_ = OutlierModel.fit(
            fitted,
            schema,
            OutlierSettings(
                components=tuple(self.component_counts),
                starts=self.n_estimators,
                marginal_share=self.marginal_share,
                widths=tuple(self.hidden_layer_sizes),
                noise=self.noise,
                draws=self.n_draws,
                steps=self.max_iter,
                batch=self.batch_size,
                lr=self.learning_rate,
            ),
            seed=seed,
            device=self.device,
            callbacks=self._callbacks(),
        )
        calibration = self.model_.energies(take(table, order[:kept_out])).numpy()
        self.calibration_energies_ = np.sort(calibration)
        if self.contamination is None:
            self.offset_ = -conformal_threshold(calibration, self.level)
            if self.offset_ == -math.inf:
                warnings.warn(
                    f"no row can be an outlier at level {self.level:g}: {kept_out} rows are kept out, and it takes "
                    f"{fewest_kept_out(self.level)}; give more rows, another level, or a larger calibration_fraction",
                    stacklevel=2,
                )
        else:
            self.offset_ = float(np.percentile(-self.model_.energies(table).numpy(), 100 * self.contamination))
        return self

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """Minus the energy in nats up to a constant, ``(N,)``: high is normal.

        Raises:
            ValueError: another table than was fitted, or numbers missing where none were.
        """
        table = self._read(X)
        return -np.asarray(self.model_.energies(table))

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """:meth:`score_samples` above the threshold, ``(N,)``: below 0 is an outlier."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> NDArray[np.int64]:
        """1 for normal rows, -1 for outliers, ``(N,)``."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def p_values(self, X: Any) -> NDArray[np.float64]:
        """Conformal p-values, ``(N,)``: of rows like the fitted ones a share of at most p has values of at most p."""
        energies = -self.score_samples(X)
        return conformal_p_values(self.calibration_energies_, energies)

    def contributions(self, X: Any, *, n_draws: int = 16, random_state: Any = None) -> Any:
        """Which cells make a row odd: a frame of a number for each, or an array ``(N, columns)`` where an array was fitted.

        The number is by how many nats the energy falls, on average, if the cell is drawn anew given the row's others.

        Args:
            X: rows.
            n_draws: of each cell.
            random_state: seed of the draws.
        """
        table = self._read(X)
        generator = self._generator(random_state)
        found = self.model_.contributions(table, draws=n_draws, generator=generator)
        index = X.index if isinstance(X, pd.DataFrame) else None
        return in_form(pd.DataFrame(found.numpy(), columns=self.model_.encoder.schema.names, index=index), self._form)

    def _to_save(self) -> dict[str, Any]:
        return {
            "offset": None if math.isinf(self.offset_) else self.offset_,
            "calibration_energies": self.calibration_energies_.tolist(),
        }

    def _take_up(self, more: dict[str, Any]) -> None:
        self.offset_ = -math.inf if more["offset"] is None else more["offset"]
        self.calibration_energies_ = np.array(more["calibration_energies"])
