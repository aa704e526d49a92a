"""Losses for energies, one method per file."""

from .conditional_nce import ConditionalNCE
from .contrastive_divergence import ContrastiveDivergence, ShortRun
from .denoising import DenoisingScoreMatching, kurtosis_scales
from .energy_discrepancy import EnergyDiscrepancy
from .finite_difference import FiniteDifferenceScoreMatching
from .maximum_likelihood import MaximumLikelihood
from .recovery_likelihood import RecoveryLikelihood
from .score_matching import ScoreMatching
from .sliced_score_matching import SlicedScoreMatching
from .telescoping import TelescopingRatios

__all__ = [
    "ConditionalNCE",
    "ContrastiveDivergence",
    "DenoisingScoreMatching",
    "EnergyDiscrepancy",
    "FiniteDifferenceScoreMatching",
    "MaximumLikelihood",
    "RecoveryLikelihood",
    "ScoreMatching",
    "ShortRun",
    "SlicedScoreMatching",
    "TelescopingRatios",
    "kurtosis_scales",
]
