"""scikit-learn estimators for tables: frame in, frame out."""

from .density import EnergyDensity, LogPartition
from .outlier import EnergyOutlierDetector

__all__ = ["EnergyDensity", "EnergyOutlierDetector", "LogPartition"]
