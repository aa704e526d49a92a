"""Density of a table's rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import DensityMixin
from sklearn.utils.validation import check_is_fitted

from ..evaluation.log_z import bound_margin
from .density_base import DensityEstimator

__all__ = ["EnergyDensity", "LogPartition"]


class LogPartition(NamedTuple):
    """log Z in nats of the encoded rows.

    Args:
        value: the estimate.
        low, high: its bracket, by three standard errors of the importance weights, and three nats at least where too few of
            them count for an error to say anything.
    """

    value: float
    low: float
    high: float


class EnergyDensity(DensityMixin, DensityEstimator):
    r"""Normalised density of rows of numbers and categories: a mixture, tilted by a network.

    .. math:: p(x) = p_0(x)\, e^{-f(x)} / Z

    with a mixture of products :math:`p_0` (:class:`chainfree.energies.TabularMixture`) whose size held-out rows choose, and a
    perceptron f that is trained by energy discrepancy, without chains (Schroeder et al., NeurIPS 2023, arXiv 2307.06431;
    NeurIPS 2024, arXiv 2412.01019 for mixed tables), until the likelihood of held-out rows falls. As draws of :math:`p_0` are
    exact, given any columns too, log Z and samples need no chains either.

    Tables may be frames of pandas, Polars or whatever narwhals knows, with text, dates, booleans and missing cells, or
    arrays of numbers. A missing cell is a value of its own, with a probability.

    Args:
        n_components: of a mixture, or ``None`` to choose at most ``max_components``.
        max_components: that are tried.
        n_mixtures: that are pooled, each from another start; one is faster, and its density about a sixth of a nat lower on
            the census.
        hidden_layer_sizes: of the network.
        noise: standard deviation of the perturbation of numbers, in units of their scaled columns.
        n_draws: perturbed rows that each row is contrasted with.
        max_iter: steps of training at most.
        batch_size: rows of a step.
        learning_rate: the first; it falls to 0 by a cosine.
        n_iter_no_change: looks at the held-out rows, one every hundred steps, that may gain nothing; ``None``: all.
        validation_fraction: of the rows, held out.
        schema: of the columns, or ``None`` to infer it: see :meth:`chainfree.tables.Schema.infer`.
        device: of the network.
        random_state: seed of all of it.
        verbose: whether a progress bar is shown.

    Attributes:
        log_partition_: log Z with its bracket.
        held_out_log_likelihood_: mean over the held-out rows in nats of the encoded rows, ``None`` without any.
        n_iter_: steps of training.
        n_features_in_, feature_names_in_: as scikit-learn has them.

    >>> import numpy as np
    >>> rows = np.random.default_rng(0).normal(size=(300, 2))
    >>> density = EnergyDensity(max_iter=50, random_state=0).fit(rows)
    >>> density.score_samples(rows).shape, density.sample(5, given={"x0": 1.0}).shape
    ((300,), (5, 2))
    """

    @property
    def log_partition_(self) -> LogPartition:
        """log Z with its bracket."""
        check_is_fitted(self)
        found = self.model_.log_z
        margin = bound_margin(found)
        return LogPartition(found.value, found.value - margin, found.value + margin)

    @property
    def held_out_log_likelihood_(self) -> float | None:
        """Mean over the held-out rows in nats of the encoded rows, ``None`` without any."""
        check_is_fitted(self)
        return self.model_.held_out

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """Log-density of rows in nats, ``(N,)``: of numbers in their own units, of all else its probability.

        Raises:
            ValueError: another table than was fitted, or numbers missing where none were.
        """
        table = self._read(X)
        return np.asarray(self.model_.log_density(table))

    def score(self, X: Any, y: Any = None) -> float:
        """Mean log-density of rows in nats; ``y`` is not used."""
        return float(self.score_samples(X).mean())
