"""Energy discrepancy as a training loss.

Schroeder, Ou, Lim, Li, Vollmer, Duncan, "Energy Discrepancies: A Score-Independent Loss for Energy-Based Models",
NeurIPS 2023, arXiv 2307.06431.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..checks import require_non_negative, require_positive_int
from ..functional.discrepancy import energy_discrepancy
from ..perturbations import Gaussian, Perturbation
from ..typing import Energy, LossOutput

__all__ = ["EnergyDiscrepancy"]


@dataclass(frozen=True, kw_only=True)
class EnergyDiscrepancy:
    """Mean over the batch of :func:`chainfree.functional.energy_discrepancy`.

    Args:
        perturbation: how information is lost; Gaussian noise of variance 1 by default.
        draws: M, energy evaluations per datum beside its own.
        w: weight of the datum among its draws. 1 makes the data density the minimiser for every M.
        chunk: draws evaluated at a time; bounds memory at large M for one more forward pass. ``None``: all at once.

    Raises:
        ValueError: ``draws`` or ``chunk`` below 1, ``w`` negative.
    """

    perturbation: Perturbation = field(default_factory=Gaussian)
    draws: int = 4
    w: float = 1.0
    chunk: int | None = None

    def __post_init__(self) -> None:
        require_positive_int("draws", self.draws)
        require_non_negative("w", self.w)
        if self.chunk is not None:
            require_positive_int("chunk", self.chunk)

    def __call__(self, energy: Energy, x: Tensor, /, *, generator: torch.Generator | None = None) -> LossOutput:
        """The scalar loss in nats, with the mean energies of data and draws as metrics."""
        result = energy_discrepancy(
            energy,
            x,
            perturbation=self.perturbation,
            draws=self.draws,
            w=self.w,
            chunk=self.chunk,
            generator=generator,
        )
        loss = result.values.mean()
        metrics = {
            "loss": loss.detach(),
            "energy_data": result.data_energy.detach().mean(),
            "energy_draws": result.draw_energy.detach().mean(),
        }
        return LossOutput(loss, metrics)
