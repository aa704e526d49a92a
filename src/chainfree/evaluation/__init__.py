"""Evaluation: log Z, likelihoods against a known truth, anomaly scores, modes covered."""

from .anomaly import AnomalyScores, anomaly_scores
from .brackets import LogZBounds, log_z_bounds
from .digit_classifier import classify_stacked, train_digit_classifier
from .divergence import held_out_nll, log_density_mse, nll_gap
from .modes import MixtureModes, ModeCoverage, mixture_modes, mode_coverage
from .partition import LogZ, log_z_importance, log_z_quadrature
from .transport import sliced_wasserstein

__all__ = [
    "AnomalyScores",
    "LogZ",
    "LogZBounds",
    "MixtureModes",
    "ModeCoverage",
    "anomaly_scores",
    "classify_stacked",
    "held_out_nll",
    "log_density_mse",
    "log_z_bounds",
    "log_z_importance",
    "log_z_quadrature",
    "mixture_modes",
    "mode_coverage",
    "nll_gap",
    "sliced_wasserstein",
    "train_digit_classifier",
]
