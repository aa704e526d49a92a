"""The mathematics, per sample and without reduction."""

from .contrastive import Contrast, contrast
from .denoising import DenoisingTerms, denoising_score_matching
from .discrepancy import Discrepancy, energy_discrepancy, stabilised_contrast
from .entropy import mixture_log_prob, pair_surrogate, score_surrogate
from .finite_difference import FiniteDifferences, finite_difference_score_matching
from .importance import Weights, self_normalised
from .noise_contrastive import conditional_noise_contrast, noise_contrast
from .reference import ReferencedDiscrepancy, referenced_discrepancy, shared_contrast
from .score_matching import exact_score_matching, sliced_score_matching
from .stein import SteinTerms, stein_terms
from .virtual_adversarial import virtual_adversarial_divergence

__all__ = [
    "Contrast",
    "DenoisingTerms",
    "Discrepancy",
    "FiniteDifferences",
    "ReferencedDiscrepancy",
    "SteinTerms",
    "Weights",
    "conditional_noise_contrast",
    "contrast",
    "denoising_score_matching",
    "energy_discrepancy",
    "exact_score_matching",
    "finite_difference_score_matching",
    "mixture_log_prob",
    "noise_contrast",
    "pair_surrogate",
    "referenced_discrepancy",
    "score_surrogate",
    "self_normalised",
    "shared_contrast",
    "sliced_score_matching",
    "stabilised_contrast",
    "stein_terms",
    "virtual_adversarial_divergence",
]
