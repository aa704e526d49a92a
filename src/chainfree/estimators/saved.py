"""Estimators from folders, whichever they hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..datasets import DataError
from .base import TableEstimator
from .classifier import JointEnergyClassifier
from .density import EnergyDensity
from .imputer import EnergyImputer
from .outlier import EnergyOutlierDetector
from .synthesizer import EnergySynthesizer

__all__ = ["ESTIMATORS", "load"]

ESTIMATORS: dict[str, type[TableEstimator[Any]]] = {
    kind.__name__: kind
    for kind in (EnergyDensity, EnergyImputer, EnergyOutlierDetector, EnergySynthesizer, JointEnergyClassifier)
}


def load(path: str | Path) -> TableEstimator[Any]:
    """The estimator that a folder holds, by its own name; see :meth:`TableEstimator.save`.

    Raises:
        DataError: the folder holds none that is known.
    """
    file = Path(path) / "estimator.json"
    try:
        name = json.loads(file.read_text(encoding="utf-8"))["estimator"]
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"{path} holds no estimator; give a folder that save made") from None
    if name not in ESTIMATORS:
        raise DataError(f"{path} holds a {name}, which this version does not know")
    return ESTIMATORS[name].load(path)
