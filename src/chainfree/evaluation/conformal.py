"""How unlikely a score is among those of rows like the training rows, whatever the model.

Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", 2005; Bates, Candes, Lei, Romano, Sesia, "Testing for
outliers with conformal p-values", Annals of Statistics 51(1), 2023.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["conformal_p_values", "conformal_threshold"]


def conformal_p_values(calibration: NDArray[np.floating], scores: NDArray[np.floating]) -> NDArray[np.float64]:
    r"""p-values :math:`(1 + |\{i : c_i \ge s\}|) / (n + 1)` of scores that are high for anomalies.

    Of a row that is exchangeable with the calibration rows, and only of such a row, :math:`P(p \le \alpha) \le \alpha`.

    Args:
        calibration: scores of rows that the model has not seen, ``(n,)``; any order.
        scores: of new rows, ``(N,)``.

    Returns:
        ``(N,)``, at least 1/(n + 1).

    Raises:
        ValueError: no calibration scores, or NaN.

    >>> conformal_p_values(np.array([1.0, 2.0, 3.0]), np.array([0.0, 2.5, 9.0]))
    array([1.  , 0.5 , 0.25])
    """
    ordered = _ordered(calibration)
    if np.isnan(scores).any():
        raise ValueError("scores hold NaN; was the energy trained on other units?")
    above = len(ordered) - np.searchsorted(ordered, scores, side="left")
    return np.asarray((1 + above) / (len(ordered) + 1))


def conformal_threshold(calibration: NDArray[np.floating], level: float) -> float:
    """The score above which, and only above which, p-values are at most the level; infinity where none can be.

    Args:
        calibration: as for :func:`conformal_p_values`.
        level: of false alarms, above 0 and below 1.

    Raises:
        ValueError: no calibration scores, NaN, or a level out of its range.

    >>> conformal_threshold(np.arange(19.0), 0.1)
    17.0
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be above 0 and below 1, got {level!r}")
    ordered = _ordered(calibration)
    alarms = math.floor(level * (len(ordered) + 1) + 1e-9)
    return float(ordered[-alarms]) if alarms else math.inf


def fewest_kept_out(level: float) -> int:
    """Calibration scores without which no p-value is at most the level."""
    return math.ceil(1 / level - 1e-9) - 1


def _ordered(calibration: NDArray[np.floating]) -> NDArray[np.floating]:
    if not len(calibration) or np.isnan(calibration).any():
        raise ValueError(f"calibration needs scores that are no NaN, got {len(calibration)} with or without")
    return np.sort(calibration)
