"""Estimators of the gradient of a generator's entropy, one a file, behind one interface."""

from .bank import PriorBank
from .base import EntropyEstimate, EntropyEstimator
from .hmc import HMCPosterior
from .importance import ImportancePosterior
from .linear import ExactLinear
from .local_density import local_log_prob
from .local_volume import LocalVolume
from .posterior import LearnedPosterior
from .steps import PreconditionedSteps

__all__ = [
    "EntropyEstimate",
    "EntropyEstimator",
    "ExactLinear",
    "HMCPosterior",
    "ImportancePosterior",
    "LearnedPosterior",
    "LocalVolume",
    "PreconditionedSteps",
    "PriorBank",
    "local_log_prob",
]
