"""Numbers on a common scale, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.preprocessing import QuantileTransformer

from ..energies import Coordinates

__all__ = ["NumberScaler", "Scaling"]

Scaling = Literal["standard", "bent", "quantile"]

_QUANTILES = 1000
_FEWEST_TO_BEND = 10  # rows that a column's tails are judged by
_LEARNED = {
    "standard": ("heavy", "centre", "knee", "loc", "scale"),
    "bent": ("heavy", "centre", "knee", "loc", "scale"),
    "quantile": ("quantiles_", "references_"),
}


class NumberScaler:
    """Columns of numbers, NaN passed over, by :class:`chainfree.energies.Coordinates` or by scikit-learn's quantiles.

    Args:
        scaling: ``"standard"`` for mean 0 and variance 1, ``"bent"`` for the same after heavy tails are bent in, by the
            inverse hyperbolic sine; ``"quantile"`` for ranks as quantiles of the standard normal, which knows nothing of what
            is beyond the least and the greatest.

    Raises:
        ValueError: another scaling.
    """

    def __init__(self, scaling: Scaling) -> None:
        if scaling not in _LEARNED:
            raise ValueError(f"scaling must be 'standard', 'bent' or 'quantile', got {scaling!r}")
        self.scaling = scaling
        self._map: Any = None

    @property
    def is_fitted(self) -> bool:
        """Whether scales were learned."""
        return self._map is not None

    def fit(self, numbers: NDArray[np.float64]) -> None:
        """``(N, D)``, NaN where there is no number. Columns of one number alone keep their unit."""
        if self.scaling == "quantile":
            self._map = _quantiles(len(numbers)).fit(numbers)
            return
        self._map = Coordinates(numbers.shape[1])
        rows = torch.from_numpy(numbers)
        for place in range(numbers.shape[1]):
            column = rows[:, place]
            column = column[~column.isnan()].unsqueeze(1)
            if len(column):
                self._map.loc[place] = column.mean()
            if len(column) < 2 or column.std() <= 1e-12 * column.abs().max():
                continue
            self._map.scale[place] = column.std(correction=0)
            if self.scaling == "bent" and len(column) >= _FEWEST_TO_BEND:
                fitted = Coordinates.fit(column)
                for name in _LEARNED["bent"]:
                    getattr(self._map, name)[place] = getattr(fitted, name)[0]

    def transform(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """``(N, D)``, NaN where they were."""
        if self.scaling == "quantile":
            scaled: NDArray[np.float64] = self._map.transform(numbers)
            return scaled
        return np.asarray(self._map(torch.from_numpy(numbers)))

    def inverse(self, scaled: NDArray[np.float64]) -> NDArray[np.float64]:
        """``(N, D)`` in the table's units."""
        if self.scaling == "quantile":
            numbers: NDArray[np.float64] = self._map.inverse_transform(scaled)
            return numbers
        return np.asarray(self._map.inverse(torch.from_numpy(scaled)))

    def log_slopes(self, scaled: NDArray[np.float64]) -> NDArray[np.float64]:
        """Logarithm of how fast the scaled numbers ``(N, D)`` grow with the table's: what log-densities of these are more by.

        Raises:
            ValueError: scaling is by quantiles, which have steps.
        """
        if self.scaling == "quantile":
            raise ValueError("quantiles have no slope; use standard or bent scaling for densities")
        return np.asarray(self._map.log_slopes(self._map.inverse(torch.from_numpy(scaled))))

    def to_dict(self) -> dict[str, Any]:
        """What was learned; empty before."""
        if self._map is None:
            return {}
        return {name: np.asarray(getattr(self._map, name)).tolist() for name in _LEARNED[self.scaling]}

    def load(self, learned: Mapping[str, Any]) -> None:
        """Take up what :meth:`to_dict` gave."""
        if not learned:
            return
        values = {name: np.asarray(learned[name]) for name in _LEARNED[self.scaling]}
        if self.scaling == "quantile":
            self._map = _quantiles(_QUANTILES)
            vars(self._map).update(values)
            self._map.n_quantiles_ = len(values["references_"])
            self._map.n_features_in_ = values["quantiles_"].shape[1]
            return
        self._map = Coordinates(len(values["loc"]))
        self._map.load_state_dict({name: torch.from_numpy(value) for name, value in values.items()})


def _quantiles(rows: int) -> Any:
    return QuantileTransformer(n_quantiles=min(_QUANTILES, rows), output_distribution="normal", subsample=None)
