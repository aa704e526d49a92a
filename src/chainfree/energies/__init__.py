"""Energies: networks, closed forms with known log Z, and ways to put them together."""

from .analytic import AnalyticEnergy, Banana, DoubleWell, Funnel, Gaussian, GaussianClasses, GaussianMixture, Ring
from .classifier import ClassDensity, ClassEnergy, JointEnergy, TemperedClasses, TiltedLogits
from .compose import Mixture, Sum, Tempered, Tilted
from .conv import ConvNet
from .coordinates import Coordinates, InCoordinates
from .mlp import MLP, FourierMLP
from .nice import NICE
from .resnet import ResNet
from .tabular import TabularMLP
from .tabular_additive import TabularAdditive
from .tabular_marginals import TabularMarginals
from .tabular_mixture import TabularMixture
from .telescope import Telescope
from .wide_resnet import WideResNet

__all__ = [
    "MLP",
    "NICE",
    "AnalyticEnergy",
    "Banana",
    "ClassDensity",
    "ClassEnergy",
    "ConvNet",
    "Coordinates",
    "DoubleWell",
    "FourierMLP",
    "Funnel",
    "Gaussian",
    "GaussianClasses",
    "GaussianMixture",
    "InCoordinates",
    "JointEnergy",
    "Mixture",
    "ResNet",
    "Ring",
    "Sum",
    "TabularAdditive",
    "TabularMLP",
    "TabularMarginals",
    "TabularMixture",
    "Telescope",
    "Tempered",
    "TemperedClasses",
    "Tilted",
    "TiltedLogits",
    "WideResNet",
]
