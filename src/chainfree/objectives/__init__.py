"""Objectives: one or several players that take turns."""

from .amortised import Amortised
from .cooperative import Cooperative
from .flow_contrastive import FlowContrastive
from .joint import Joint, VirtualAdversarial
from .latent import LatentPrior
from .learned_stein import LearnedStein
from .meg import MEG, jensen_shannon_bound
from .negatives import WeightedNegatives
from .noise_contrastive import NoiseContrastive
from .persistent import PersistentContrastiveDivergence
from .single import Single
from .vera import VERA

__all__ = [
    "MEG",
    "VERA",
    "Amortised",
    "Cooperative",
    "FlowContrastive",
    "Joint",
    "LatentPrior",
    "LearnedStein",
    "NoiseContrastive",
    "PersistentContrastiveDivergence",
    "Single",
    "VirtualAdversarial",
    "WeightedNegatives",
    "jensen_shannon_bound",
]
