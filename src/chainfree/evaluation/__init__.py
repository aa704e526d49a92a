"""Evaluation: log Z, likelihoods against a known truth, anomaly scores."""

from .anomaly import AnomalyScores, anomaly_scores
from .divergence import held_out_nll, log_density_mse, nll_gap
from .partition import LogZ, log_z_importance, log_z_quadrature

__all__ = [
    "AnomalyScores",
    "LogZ",
    "anomaly_scores",
    "held_out_nll",
    "log_density_mse",
    "log_z_importance",
    "log_z_quadrature",
    "nll_gap",
]
