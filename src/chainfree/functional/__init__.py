"""The mathematics, per sample and without reduction."""

from .discrepancy import Discrepancy, energy_discrepancy, stabilised_contrast

__all__ = ["Discrepancy", "energy_discrepancy", "stabilised_contrast"]
