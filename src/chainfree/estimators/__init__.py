"""scikit-learn estimators for tables: frame in, frame out."""

from .classifier import JointEnergyClassifier
from .density import EnergyDensity, LogPartition
from .imputer import EnergyImputer
from .outlier import EnergyOutlierDetector
from .saved import load
from .synthesizer import EnergySynthesizer

__all__ = [
    "EnergyDensity",
    "EnergyImputer",
    "EnergyOutlierDetector",
    "EnergySynthesizer",
    "JointEnergyClassifier",
    "LogPartition",
    "load",
]
