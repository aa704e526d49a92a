"""chainfree: energy-based models without Markov chains in the training loop.

>>> import torch
>>> import chainfree as cf
>>> energy = cf.energies.MLP(dim=2, width=32)
>>> loss = cf.losses.EnergyDiscrepancy(perturbation=cf.perturbations.Gaussian(t=1.0), draws=4, w=1.0)
>>> report = cf.Engine(energy, loss, seed=0).fit(cf.batches(torch.randn(512, 2), size=128), steps=20)
>>> report.stopped
'completed'
"""

from importlib import import_module
from types import ModuleType

from . import (
    datasets,
    energies,
    entropy,
    evaluation,
    functional,
    generators,
    latent,
    losses,
    objectives,
    perturbations,
    plotting,
    samplers,
    typing,
)
from ._version import __version__
from .batches import NoBatches, SampledBatches, batches
from .checks import ContractError
from .engine import Engine, FitReport, Guard, TrainingDivergedError
from .fitting import fit_flow, fit_generator
from .semi_supervised import SemiSupervisedBatches, semi_supervised_batches

__all__ = [
    "ContractError",
    "Engine",
    "FitReport",
    "Guard",
    "NoBatches",
    "SampledBatches",
    "SemiSupervisedBatches",
    "TrainingDivergedError",
    "__version__",
    "batches",
    "datasets",
    "energies",
    "entropy",
    "evaluation",
    "fit_flow",
    "fit_generator",
    "functional",
    "generators",
    "latent",
    "losses",
    "objectives",
    "perturbations",
    "plotting",
    "samplers",
    "semi_supervised_batches",
    "typing",
]

# what stands on pandas, which not everybody has
_OF_TABLES = ("estimators", "tables")


def __getattr__(name: str) -> ModuleType:
    if name not in _OF_TABLES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return import_module(f".{name}", __name__)
    except ModuleNotFoundError as error:
        raise ImportError(f"chainfree.{name} needs {error.name}: pip install 'chainfree[tables]'") from error
