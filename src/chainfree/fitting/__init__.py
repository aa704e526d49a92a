"""Functions that fit one thing to another and return it: a flow to rows, a generator to an energy."""

from .flow import fit_flow
from .generator import GeneratorFit, fit_generator

__all__ = ["GeneratorFit", "fit_flow", "fit_generator"]
