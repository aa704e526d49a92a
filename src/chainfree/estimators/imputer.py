"""Missing cells of a table, filled in."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.base import OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import check_random_state
from torch import Tensor

from ..checks import require_positive_int
from ..fitting import IncompleteRows, fit_incomplete_tabular_mixture
from ..samplers import weighted_given
from ..tables import CategoryColumn, Column, NumberColumn, Schema, TableEncoder
from ..tables.series import category_series, number_series
from .base import TableEstimator
from .density_base import density_settings
from .density_model import DensityModel
from .frames import as_pandas, form_of, in_form, is_frame
from .shrinkage import Shrinkage, held_out_shrinkage

__all__ = ["EnergyImputer"]

_PROPOSALS = 16  # of the mixture, that each draw is chosen from


class EnergyImputer(OneToOneFeatureMixin, TransformerMixin, TableEstimator[DensityModel]):
    r"""Fills missing cells by what they are likely to be given the row's others.

    The density of :class:`EnergyDensity`, by what is known of the rows. Mixtures are fitted to the table and fill it by draws
    given the row's other cells, in turns (Celeux and Diebolt, "The SEM algorithm", Computational Statistics Quarterly 2,
    1985); the last ones are pooled. The network then sees each row as one of eight draws of them, by its weight under the
    density as it is at that step, so that it learns little from what the mixtures put into cells. Cells are taken to be
    missing at random: that one is missing says nothing about it that the others do not. Numbers are filled within what the
    column has: far out, where the logarithm of a number was fitted, a draw's own units know no measure. Draws of all rows of
    a call come from one stream: with the same seed and other rows before it, a row is filled by other draws.

    Args:
        strategy: ``"likely"`` fills with the mean of draws for numbers, as far from the column's own mean as held-out rows
            bear out, of few whole numbers with the one nearest to it, and with the most frequent of categories; ``"draw"``
            with one draw. For several completions see :meth:`completions`.
        n_imputations: draws that a mean or a most frequent value is of.
        n_rounds: turns of fitting and filling before those whose mixtures are pooled. Two suffice where up to a third of the
            cells is missing; where half is, what they know of each other comes out too weak before some ten.
        n_components: of a mixture, or ``None`` to choose at most ``max_components``.
        max_components: that are tried.
        n_mixtures: that are pooled, one of each of the last turns.
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
        shrinkage_: by column of numbers, how far means are taken back to the column's own; held-out rows say it, and
            without any there is none. Draws are not taken back.
        n_iter_: steps of training.
        n_features_in_, feature_names_in_: as scikit-learn has them.

    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(300, 1))
    >>> rows = np.hstack([x, 2 * x])
    >>> rows[:30, 1] = np.nan
    >>> filled = EnergyImputer(max_iter=50, random_state=0).fit_transform(rows)
    >>> bool(np.abs(filled[:, 1] - 2 * x[:, 0]).max() < 1)
    True
    """

    _model_class = DensityModel

    shrinkage_: dict[str, Shrinkage]

    def __init__(
        self,
        *,
        strategy: Literal["likely", "draw"] = "likely",
        n_imputations: int = 100,
        n_rounds: int = 2,
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
        self.strategy = strategy
        self.n_imputations = n_imputations
        self.n_rounds = n_rounds
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
        """Fit to a table's rows, with holes; ``y`` is not used.

        Raises:
            ValueError: a table that cannot be read, a column without any value, or a setting out of its range.
            TrainingDivergedError: training did not come to an end.
        """
        self._require_strategy()
        require_positive_int("n_imputations", self.n_imputations)
        if self.n_rounds != 0:
            require_positive_int("n_rounds", self.n_rounds)
        table, schema = self._read_to_fit(X)
        seed = self._seed()
        # what is missing is filled, so the model has no state for it
        schema = Schema(tuple(dataclasses.replace(column, missing=False) for column in schema.columns))
        frame = as_pandas(table)[list(schema.names)]
        missing = frame.isna().to_numpy()
        settings = density_settings(self)
        generator = torch.Generator().manual_seed(seed)
        filled = _filled_by_columns(frame, np.random.default_rng(seed))
        encoder = TableEncoder(schema, scaling=settings.scaling, reserve=settings.reserve).fit(filled)
        rows = IncompleteRows(encoder.encode(filled, generator=generator), _fixed(encoder, missing))
        order = torch.randperm(len(rows), generator=generator)
        count = DensityModel.held_out_rows(len(rows), settings)
        kept = rows[order[count:]]
        base = fit_incomplete_tabular_mixture(
            kept,
            encoder.sizes,
            states=encoder.states,
            reserved=encoder.reserved,
            components=settings.components,
            most_components=settings.most_components,
            prior_rows=settings.prior_rows,
            turns=self.n_rounds,
            pooled=settings.mixtures,
            seed=seed,
        )
        held = rows[order[:count]] if count else None
        self.model_ = DensityModel.tilted(
            encoder, base, kept, held, settings, seed=seed, device=self.device, callbacks=self._callbacks()
        )
        self.shrinkage_ = {}
        if held is not None:
            self.shrinkage_ = held_out_shrinkage(self.model_, held, rows, proposals=self.n_imputations, seed=seed)
        return self

    def _require_strategy(self) -> None:
        if self.strategy not in ("likely", "draw"):
            raise ValueError(f"strategy must be 'likely' or 'draw', got {self.strategy!r}")

    def _to_save(self) -> dict[str, Any]:
        return {"shrinkage": {name: list(found) for name, found in self.shrinkage_.items()}}

    def _take_up(self, more: dict[str, Any]) -> None:
        self.shrinkage_ = {name: Shrinkage(*found) for name, found in more.get("shrinkage", {}).items()}

    def transform(self, X: Any) -> Any:
        """The table without holes, in its own form.

        Cells that are there are left as they are. With the strategy ``"draw"`` the draws' seed is ``random_state``, so a
        table is filled alike every time.

        Raises:
            ValueError: another table than was fitted, or another strategy than there is.
        """
        self._require_strategy()
        return self._complete(X, self.strategy, self.random_state)

    def completions(self, X: Any, *, n_completions: int = 5, random_state: Any = None) -> list[Any]:
        """Tables without holes, filled by independent draws: what an analysis is repeated on, to know how sure it may be.

        Args:
            X: table.
            n_completions: how many.
            random_state: seed of the draws.

        Raises:
            ValueError: another table than was fitted, or ``n_completions`` below 1.
        """
        require_positive_int("n_completions", n_completions)
        seeds = check_random_state(random_state).randint(2**31 - 1, size=n_completions)
        return [self._complete(X, "draw", int(seed)) for seed in seeds]

    def _complete(self, X: Any, strategy: str, random_state: Any) -> Any:
        table = self._read(X)
        frame = as_pandas(table)
        columns = self.model_.encoder.schema.columns
        holes = frame[[column.name for column in columns]].isna()
        rows = np.flatnonzero(holes.to_numpy().any(axis=1))
        whole = _with_any_value(frame.reset_index(drop=True), columns)
        if not len(rows):
            self.model_.encoder.encode(whole)  # what is no such table is refused all the same
            return X if is_frame(X) else in_form(frame, "array")
        some = whole.iloc[rows].reset_index(drop=True)
        missing = holes.iloc[rows].to_numpy()
        seeded = self._generator(0 if random_state is None else random_state)
        if strategy == "draw":
            found = _filled_by_draws(self.model_, some, missing, seeded)
        else:
            found = self._likely(some, missing, seeded)
        for place, column in enumerate(columns):
            here = rows[missing[:, place]]
            if len(here):
                values = found[column.name][missing[:, place]]
                frame = _put(frame, column.name, here, values)
        return in_form(frame, form_of(X))

    def _likely(self, frame: pd.DataFrame, missing: NDArray[np.bool_], generator: torch.Generator) -> pd.DataFrame:
        """Means and most frequent categories of weighted draws, in every cell that was missing."""
        model, encoder = self.model_, self.model_.encoder
        rows = encoder.encode(frame)
        parts: dict[str, list[NDArray[Any]]] = {name: [] for name in encoder.schema.names}
        fixed = _fixed(encoder, missing)
        proposals = weighted_given(
            model.energy,
            rows.to(model.device),
            fixed.to(model.device),
            proposals=self.n_imputations,
            generator=generator,
        )
        for found in proposals:
            drawn, weights = found.x.cpu(), found.weights.cpu()
            numbers = encoder.decode_numbers(drawn.flatten(0, 1), within=True)
            for column in encoder.schema.columns:
                if isinstance(column, NumberColumn):
                    values = torch.from_numpy(numbers[column.name]).view_as(weights)
                    parts[column.name].append((weights * values).sum(1).numpy())
                else:
                    codes = drawn[:, :, encoder.places(column.name)[0]].long()
                    votes = torch.zeros(len(codes), len(column.values) + 2, dtype=weights.dtype)
                    votes.scatter_add_(1, codes, weights)
                    parts[column.name].append(_chosen(votes[:, : len(column.values)], column).numpy())
        filled = {}
        for column in encoder.schema.columns:
            values_of = np.concatenate(parts[column.name])
            if isinstance(column, NumberColumn):
                if column.name in self.shrinkage_:
                    values_of = self.shrinkage_[column.name](values_of)
                filled[column.name] = number_series(column, values_of)
            else:
                filled[column.name] = category_series(column, values_of)
        return pd.DataFrame(filled)


def _chosen(votes: Tensor, column: CategoryColumn) -> Tensor:
    """The code nearest to the mean where codes are numbers in their order, the most frequent else, ``(N, S) -> (N,)``."""
    if column.order != "ordinal" or isinstance(column.values[0], str):
        return votes.argmax(1)
    values = torch.tensor([float(value) for value in column.values], dtype=votes.dtype)
    means = (votes @ values) / votes.sum(1)
    return (means.unsqueeze(1) - values).abs().argmin(1)


def _fixed(encoder: TableEncoder, missing: NDArray[np.bool_]) -> Tensor:
    """Which cells of the tensors are known, ``(N, D)``."""
    fixed = torch.ones(len(missing), len(encoder.columns), dtype=torch.bool)
    for place, name in enumerate(encoder.schema.names):
        fixed[:, encoder.places(name)] = torch.from_numpy(~missing[:, place : place + 1])
    return fixed


def _filled_by_columns(frame: pd.DataFrame, source: np.random.Generator) -> pd.DataFrame:
    """Holes filled by values of other rows."""
    filled = frame.copy()
    for name in frame.columns:
        holes = np.flatnonzero(frame[name].isna().to_numpy())
        if len(holes):
            there = frame[name].dropna()
            filled = _put(filled, name, holes, there.iloc[source.integers(len(there), size=len(holes))])
    return filled


def _filled_by_draws(
    model: DensityModel, filled: pd.DataFrame, missing: NDArray[np.bool_], generator: torch.Generator
) -> pd.DataFrame:
    """Cells that were missing drawn anew given the row's others; what stands in them now is not looked at."""
    rows = np.flatnonzero(missing.any(axis=1))
    encoded = model.encoder.encode(filled.iloc[rows])
    drawn = model.complete(encoded, _fixed(model.encoder, missing[rows]), proposals=_PROPOSALS, generator=generator)
    decoded = model.encoder.decode(drawn, within=True)
    for place, name in enumerate(model.encoder.schema.names):
        own = missing[rows, place]
        if own.any():
            filled = _put(filled, name, rows[own], decoded[name][own])
    return filled


def _with_any_value(frame: pd.DataFrame, columns: Sequence[Column]) -> pd.DataFrame:
    """Holes filled by a value that the column can have, for the encoder: nobody looks at it."""
    filled = frame
    for column in columns:
        holes = np.flatnonzero(frame[column.name].isna().to_numpy())
        if len(holes):
            if isinstance(column, NumberColumn):
                values = number_series(column, np.full(len(holes), column.low))
            else:
                values = category_series(column, np.zeros(len(holes), dtype=np.int64))
            filled = _put(filled, column.name, holes, values)
    return filled


def _put(frame: pd.DataFrame, name: str, rows: NDArray[np.int64], values: pd.Series[Any]) -> pd.DataFrame:
    """A copy with values in some rows of a column, of the column's own type where it can hold them."""
    column = frame[name].copy()
    if isinstance(column.dtype, pd.DatetimeTZDtype) and values.dt.tz is None:
        values = values.dt.tz_localize("UTC").dt.tz_convert(column.dtype.tz)
    found = np.asarray(values, dtype=object) if column.dtype == object else values.to_numpy()
    # pandas takes no float64 into a column of half or single precision
    column.iloc[rows] = found.astype(column.dtype) if column.dtype in (np.float16, np.float32) else found
    return frame.assign(**{name: column.infer_objects() if column.dtype == object else column})
