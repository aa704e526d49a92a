"""What densities and synthesizers of tables share: their parameters, how they are fitted, and their draws."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from ..checks import require_positive_int
from ..tables import NumberColumn, Schema
from ..tables.given import instant, is_missing, timestamp
from ..tables.series import number_series
from .base import TableEstimator
from .column_types import zone_of
from .density_model import DensityModel, DensitySettings
from .frames import in_form

__all__ = ["DensityEstimator", "density_settings"]


class DensityParameters(Protocol):
    """What an estimator is given that says how its density is fitted."""

    n_components: int | None
    max_components: int
    n_mixtures: int
    hidden_layer_sizes: tuple[int, ...]
    noise: float
    n_draws: int
    max_iter: int
    batch_size: int
    learning_rate: float
    n_iter_no_change: int | None
    validation_fraction: float


def density_settings(given: DensityParameters) -> DensitySettings:
    """An estimator's parameters as the model's settings."""
    require_positive_int("n_mixtures", given.n_mixtures)
    return DensitySettings(
        components=given.n_components,
        most_components=given.max_components,
        mixtures=given.n_mixtures,
        widths=tuple(given.hidden_layer_sizes),
        noise=given.noise,
        draws=given.n_draws,
        steps=given.max_iter,
        batch=given.batch_size,
        lr=given.learning_rate,
        patience=given.n_iter_no_change,
        held_out=given.validation_fraction,
    )


class DensityEstimator(TableEstimator[DensityModel]):
    """A mixture of a table's rows, tilted by a network."""

    _within: ClassVar[bool] = False  # whether drawn numbers are held to what the table has

    _model_class = DensityModel

    def __init__(
        self,
        *,
        n_components: int | None = None,
        max_components: int = 64,
        n_mixtures: int = 3,
        hidden_layer_sizes: tuple[int, ...] = (256, 256),
        noise: float = 0.3,
        n_draws: int = 16,
        max_iter: int = 2000,
        batch_size: int = 256,
        learning_rate: float = 1e-3,
        n_iter_no_change: int | None = 10,
        validation_fraction: float = 0.1,
        schema: Schema | None = None,
        device: str = "cpu",
        random_state: Any = None,
        verbose: int | bool = 0,
    ) -> None:
        self.n_components = n_components
        self.max_components = max_components
        self.n_mixtures = n_mixtures
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

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit to a table's rows; ``y`` is not used.

        Raises:
            ValueError: a table that cannot be read, or a setting out of its range.
            TrainingDivergedError: training did not come to an end.
        """
        table, schema = self._read_to_fit(X)
        self.model_ = DensityModel.fit(
            table,
            schema,
            density_settings(self),
            seed=self._seed(),
            device=self.device,
            callbacks=self._callbacks(),
        )
        return self

    def sample(
        self,
        n_samples: int = 1,
        *,
        given: Mapping[str, Any] | None = None,
        n_proposals: int = 64,
        random_state: Any = None,
    ) -> Any:
        """Rows in the form of the fitted table.

        Args:
            n_samples: rows.
            given: values of any columns, by name: the others are drawn given these, without rejection. A column that is
                given ``None``, NaN, NA or NaT is missing. A date without a zone is of the column's. What rows are like beyond
                the numbers that the table has is a guess.
            n_proposals: of the mixture, that each row is chosen from.
            random_state: seed of the draws.

        Raises:
            ValueError: ``n_samples`` below 1, a column that is not there, or a value that it cannot have.
            TypeError: ``given`` is no mapping.
            NotFittedError: it is not fitted.
        """
        check_is_fitted(self)
        require_positive_int("n_samples", n_samples)
        if not isinstance(given, Mapping | None):
            raise TypeError(f"given must be values by column, such as {{'age': 40}}, got {type(given).__name__}")
        generator = self._generator(random_state)
        named = (given or {}).items()
        given = {name: None if is_missing(value) else self._on_its_clock(name, value) for name, value in named}
        if not given:
            rows = self.model_.sample(n_samples, proposals=n_proposals, generator=generator)
        else:
            row, fixed = self.model_.encoder.encode_given(given)
            rows = self.model_.complete(
                row.repeat(n_samples, 1), fixed.repeat(n_samples, 1), proposals=n_proposals, generator=generator
            )
        table = self.model_.encoder.decode(rows, within=self._within)
        for column in self.model_.encoder.schema.columns:
            # to the last digit, which the tensors do not keep
            if isinstance(column, NumberColumn) and (value := given.get(column.name)) is not None:
                if column.dates:
                    table[column.name] = pd.Series([instant(value)] * n_samples).astype(table[column.name].dtype)
                else:
                    table[column.name] = number_series(column, np.full(n_samples, float(value)))
        return in_form(table, self._form, self._types, self.model_.encoder.schema.columns)

    def _on_its_clock(self, name: str, value: Any) -> Any:
        """A date without a zone as one of the zone that the fitted column had."""
        zone = zone_of(self._types.get(name, ""))
        if zone is None or value is None:
            return value
        try:
            when = timestamp(value)
        except (TypeError, ValueError):
            return value  # the encoder says that it is no date
        return when.tz_localize(zone) if when.tz is None else when
