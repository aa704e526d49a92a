"""Losses for energies, one method per file."""

from .energy_discrepancy import EnergyDiscrepancy

__all__ = ["EnergyDiscrepancy"]
