"""scikit-learn estimators for tables: frame in, frame out."""

from .classifier import JointEnergyClassifier
from .density import EnergyDensity, LogPartition
from .outlier import EnergyOutlierDetector

__all__ = ["EnergyDensity", "EnergyOutlierDetector", "JointEnergyClassifier", "LogPartition"]
