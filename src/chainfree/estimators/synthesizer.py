"""Synthetic rows of a table."""

from __future__ import annotations

from typing import ClassVar

from sklearn.utils.validation import check_is_fitted

from .density_base import DensityEstimator

__all__ = ["EnergySynthesizer"]


class EnergySynthesizer(DensityEstimator):
    r"""Makes rows like a table's, in its own types and categories, given any columns or none.

    The density of :class:`EnergyDensity`: rows are drawn from its mixture and chosen by the network's weights
    (sampling-importance-resampling). No chain, no discriminator, and a condition is met by drawing given it, without
    rejection. Numbers beyond the table's least and greatest are taken to these.

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
        held_out_gain_: nats a row by which the network is better than the mixture on held-out rows, ``None`` without any.
        n_iter_: steps of training.
        n_features_in_, feature_names_in_: as scikit-learn has them.

    >>> import numpy as np, pandas as pd
    >>> rng = np.random.default_rng(0)
    >>> frame = pd.DataFrame({"age": rng.integers(18, 90, 300), "town": rng.choice(["Ulm", "Bonn"], 300)})
    >>> synthesizer = EnergySynthesizer(max_iter=50, random_state=0).fit(frame)
    >>> synthesizer.sample(100, given={"town": "Ulm"}, random_state=0)["town"].unique().tolist()
    ['Ulm']
    """

    _within: ClassVar[bool] = True

    @property
    def held_out_gain_(self) -> float | None:
        """Nats a row by which the network is better than the mixture."""
        check_is_fitted(self)
        found, of_base = self.model_.held_out, self.model_.held_out_base
        return None if found is None or of_base is None else found - of_base
