"""Functions that fit one thing to another and return it: flows, densities and tilts to rows, a generator to an energy."""

from .flow import fit_flow
from .generator import GeneratorFit, fit_generator
from .tabular_marginals import fit_tabular_marginals
from .tabular_mixture import fit_tabular_mixture
from .tilted import TiltedFit, fit_tilted

__all__ = [
    "GeneratorFit",
    "TiltedFit",
    "fit_flow",
    "fit_generator",
    "fit_tabular_marginals",
    "fit_tabular_mixture",
    "fit_tilted",
]
