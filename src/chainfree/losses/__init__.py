"""Losses for energies, one method per file."""

from .energy_discrepancy import EnergyDiscrepancy
from .maximum_likelihood import MaximumLikelihood
from .score_matching import ScoreMatching
from .sliced_score_matching import SlicedScoreMatching

__all__ = ["EnergyDiscrepancy", "MaximumLikelihood", "ScoreMatching", "SlicedScoreMatching"]
