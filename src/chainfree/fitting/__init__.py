"""Functions that fit one thing to another and return it: flows, densities and tilts to rows, a generator to an energy."""

from .flow import fit_flow
from .generator import GeneratorFit, fit_generator
from .incomplete import IncompleteRows, fit_incomplete_tabular_mixture
from .latent_prior import fit_latent_prior
from .tabular_marginals import fit_tabular_marginals
from .tabular_mixture import MixtureSize, choose_mixture_size, fit_tabular_mixture
from .tilted import TiltedFit, fit_tilted

__all__ = [
    "GeneratorFit",
    "IncompleteRows",
    "MixtureSize",
    "TiltedFit",
    "choose_mixture_size",
    "fit_flow",
    "fit_generator",
    "fit_incomplete_tabular_mixture",
    "fit_latent_prior",
    "fit_tabular_marginals",
    "fit_tabular_mixture",
    "fit_tilted",
]
