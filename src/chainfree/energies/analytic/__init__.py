"""Energies with a known log Z and an exact sampler: targets, bases, oracles for tests."""

from .banana import Banana
from .base import AnalyticEnergy
from .classes import GaussianClasses
from .double_well import DoubleWell
from .funnel import Funnel
from .gaussian import Gaussian
from .mixture import GaussianMixture
from .ring import Ring

__all__ = ["AnalyticEnergy", "Banana", "DoubleWell", "Funnel", "Gaussian", "GaussianClasses", "GaussianMixture", "Ring"]
