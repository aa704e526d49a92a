"""Joint energy models beside classifiers of few labels."""

from .comparison import JointComparison
from .outside import JointOutside
from .search import JointSearch
from .training import JointTraining

__all__ = ["JointComparison", "JointOutside", "JointSearch", "JointTraining"]
