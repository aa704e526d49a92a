"""The mathematics, per sample and without reduction."""

from .discrepancy import Discrepancy, energy_discrepancy, stabilised_contrast
from .entropy import mixture_log_prob, pair_surrogate, score_surrogate
from .importance import Weights, self_normalised
from .score_matching import exact_score_matching, sliced_score_matching

__all__ = [
    "Discrepancy",
    "Weights",
    "energy_discrepancy",
    "exact_score_matching",
    "mixture_log_prob",
    "pair_surrogate",
    "score_surrogate",
    "self_normalised",
    "sliced_score_matching",
    "stabilised_contrast",
]
