"""Functions that fit one thing to another and return it: a flow to rows, a generator to an energy, a mixture to a table."""

from .flow import fit_flow
from .generator import GeneratorFit, fit_generator
from .tabular_mixture import fit_tabular_mixture

__all__ = ["GeneratorFit", "fit_flow", "fit_generator", "fit_tabular_mixture"]
