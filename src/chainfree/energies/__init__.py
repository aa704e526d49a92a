"""Energies: networks, closed forms with known log Z, and ways to put them together."""

from .analytic import AnalyticEnergy, Banana, DoubleWell, Funnel, Gaussian, GaussianMixture, Ring
from .compose import Mixture, Sum, Tempered, Tilted
from .conv import ConvNet
from .coordinates import Coordinates, InCoordinates
from .mlp import MLP, FourierMLP
from .nice import NICE
from .resnet import ResNet
from .telescope import Telescope

__all__ = [
    "MLP",
    "NICE",
    "AnalyticEnergy",
    "Banana",
    "ConvNet",
    "Coordinates",
    "DoubleWell",
    "FourierMLP",
    "Funnel",
    "Gaussian",
    "GaussianMixture",
    "InCoordinates",
    "Mixture",
    "ResNet",
    "Ring",
    "Sum",
    "Telescope",
    "Tempered",
    "Tilted",
]
