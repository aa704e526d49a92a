"""Evaluation: log Z with brackets, likelihoods, distances between samples, anomaly scores, modes covered."""

from .ais import Annealed, ais, reverse_ais
from .annealing import AnnealingSchedule, annealing_schedule
from .anomaly import AnomalyScores, anomaly_scores
from .brackets import LogZBounds, log_z_bounds
from .calibration import ClassifierScores, Reliability, classifier_scores, fit_temperature, reliability
from .conformal import conformal_p_values, conformal_threshold
from .divergence import held_out_nll, log_density_mse, nll_gap
from .enumeration import log_z_enumeration
from .estimate_log_z import LogLikelihood, LogZDisagreement, LogZEstimate, estimate_log_z, log_likelihood
from .frechet import frechet_distance
from .image_classifier import classify_stacked, image_features, train_image_classifier
from .importance import log_z_importance
from .log_z import LogZ
from .mmd import squared_mmd
from .modes import MixtureModes, ModeCoverage, mixture_modes, mode_coverage
from .out_of_distribution import OutlierScores, max_probability_score, outlier_scores
from .precision_recall import DensityCoverage, PrecisionRecall, density_coverage, precision_recall
from .quadrature import log_z_quadrature
from .stein_discrepancy import SteinDiscrepancy, stein_discrepancy
from .transport import sliced_wasserstein
from .two_sample_test import TwoSampleTest, classifier_two_sample_test

__all__ = [
    "Annealed",
    "AnnealingSchedule",
    "AnomalyScores",
    "ClassifierScores",
    "DensityCoverage",
    "LogLikelihood",
    "LogZ",
    "LogZBounds",
    "LogZDisagreement",
    "LogZEstimate",
    "MixtureModes",
    "ModeCoverage",
    "OutlierScores",
    "PrecisionRecall",
    "Reliability",
    "SteinDiscrepancy",
    "TwoSampleTest",
    "ais",
    "annealing_schedule",
    "anomaly_scores",
    "classifier_scores",
    "classifier_two_sample_test",
    "classify_stacked",
    "conformal_p_values",
    "conformal_threshold",
    "density_coverage",
    "estimate_log_z",
    "fit_temperature",
    "frechet_distance",
    "held_out_nll",
    "image_features",
    "log_density_mse",
    "log_likelihood",
    "log_z_bounds",
    "log_z_enumeration",
    "log_z_importance",
    "log_z_quadrature",
    "max_probability_score",
    "mixture_modes",
    "mode_coverage",
    "nll_gap",
    "outlier_scores",
    "precision_recall",
    "reliability",
    "reverse_ais",
    "sliced_wasserstein",
    "squared_mmd",
    "stein_discrepancy",
    "train_image_classifier",
]
