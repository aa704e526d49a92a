"""Experiments that are more than one training run: the papers' figures and ablations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from matplotlib.figure import Figure

from .ablation import Ablation
from .dimensions import Dimensions
from .ed_then_generator import EDThenGenerator
from .entropy_bias_variance import EntropyBiasVariance
from .joint import JointComparison, JointOutside, JointSearch, JointTraining
from .latent import LatentAnomaly, LatentComparison, LatentInterpolation, PixelsAndLatents
from .nearsightedness import Nearsightedness
from .nice_mnist import NiceMNIST
from .record import Recorder
from .stacked_mnist import StackedMNIST
from .toy_lambda import ToyLambda
from .w_stabilisation import WStabilisation

__all__ = [
    "EXPERIMENTS",
    "Ablation",
    "Dimensions",
    "EDThenGenerator",
    "EntropyBiasVariance",
    "Experiment",
    "JointComparison",
    "JointOutside",
    "JointSearch",
    "JointTraining",
    "LatentAnomaly",
    "LatentComparison",
    "LatentInterpolation",
    "Nearsightedness",
    "NiceMNIST",
    "PixelsAndLatents",
    "Recorder",
    "StackedMNIST",
    "ToyLambda",
    "WStabilisation",
]


class Experiment(Protocol):
    """Settings that know how to run."""

    @property
    def seeds(self) -> Sequence[int]:
        """Of everything random in it."""
        ...

    def run(self) -> tuple[dict[str, Any], Figure]:
        """Figures for the record, and the picture."""
        ...


EXPERIMENTS: dict[str, Callable[..., Experiment]] = {
    "nearsightedness": Nearsightedness,
    "w_stabilisation": WStabilisation,
    "ablation": Ablation,
    "ed_then_generator": EDThenGenerator,
    "stacked_mnist": StackedMNIST,
    "nice_mnist": NiceMNIST,
    "entropy_bias_variance": EntropyBiasVariance,
    "toy_lambda": ToyLambda,
    "dimensions": Dimensions,
    "joint_comparison": JointComparison,
    "joint_outside": JointOutside,
    "joint_search": JointSearch,
    "joint_training": JointTraining,
    "latent_anomaly": LatentAnomaly,
    "latent_comparison": LatentComparison,
    "latent_interpolation": LatentInterpolation,
    "pixels_and_latents": PixelsAndLatents,
}
