"""Objectives: one or several players that take turns."""

from .amortised import Amortised
from .cooperative import Cooperative
from .meg import MEG, jensen_shannon_bound
from .negatives import WeightedNegatives
from .single import Single
from .vera import VERA

__all__ = ["MEG", "VERA", "Amortised", "Cooperative", "Single", "WeightedNegatives", "jensen_shannon_bound"]
