"""Numbers on a common scale, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import QuantileTransformer, StandardScaler

__all__ = ["NumberScaler", "Scaling"]

Scaling = Literal["standard", "quantile"]

_QUANTILES = 1000
_LEARNED = {"standard": ("mean_", "scale_", "var_"), "quantile": ("quantiles_", "references_")}


class NumberScaler:
    """Columns of numbers by scikit-learn's scalers, which pass over NaN; plain values for JSON.

    Args:
        scaling: ``"standard"`` for mean 0 and variance 1, ``"quantile"`` for ranks as quantiles of the standard normal.

    Raises:
        ValueError: another scaling.
    """

    def __init__(self, scaling: Scaling) -> None:
        if scaling not in _LEARNED:
            raise ValueError(f"scaling must be 'standard' or 'quantile', got {scaling!r}")
        self.scaling = scaling
        self._scaler: Any = None

    @property
    def is_fitted(self) -> bool:
        """Whether scales were learned."""
        return self._scaler is not None

    def fit(self, numbers: NDArray[np.float64]) -> None:
        """``(N, D)``, NaN where there is no number."""
        self._scaler = self._new(len(numbers)).fit(numbers)

    def transform(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """``(N, D)``, NaN where they were."""
        scaled: NDArray[np.float64] = self._scaler.transform(numbers)
        return scaled

    def inverse(self, scaled: NDArray[np.float64]) -> NDArray[np.float64]:
        """``(N, D)`` in the table's units."""
        numbers: NDArray[np.float64] = self._scaler.inverse_transform(scaled)
        return numbers

    @property
    def log_scales(self) -> NDArray[np.float64]:
        """Logarithms of the units, ``(D,)``: a number's log-density in the table's units is less by this.

        Raises:
            ValueError: scaling is by quantiles, where it depends on the number.
        """
        if self.scaling != "standard":
            raise ValueError("by quantiles it depends on the row; use standard scaling for densities")
        return np.log(np.asarray(self._scaler.scale_))

    def to_dict(self) -> dict[str, Any]:
        """What was learned; empty before."""
        if self._scaler is None:
            return {}
        return {name: getattr(self._scaler, name).tolist() for name in _LEARNED[self.scaling]}

    def load(self, learned: Mapping[str, Any]) -> None:
        """Take up what :meth:`to_dict` gave."""
        if not learned:
            return
        scaler = self._new(_QUANTILES)
        for name in _LEARNED[self.scaling]:
            setattr(scaler, name, np.asarray(learned[name], dtype=np.float64))
        if self.scaling == "quantile":
            scaler.n_quantiles_ = len(scaler.references_)
            scaler.n_features_in_ = scaler.quantiles_.shape[1]
        else:
            scaler.n_features_in_ = len(scaler.mean_)
        self._scaler = scaler

    def _new(self, rows: int) -> Any:
        if self.scaling == "standard":
            return StandardScaler()
        return QuantileTransformer(n_quantiles=min(_QUANTILES, rows), output_distribution="normal", subsample=None)
