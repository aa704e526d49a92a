"""Joint energy models beside classifiers of few labels."""

from .comparison import JointComparison
from .search import JointSearch

__all__ = ["JointComparison", "JointSearch"]
