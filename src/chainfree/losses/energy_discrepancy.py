"""Energy discrepancy as a training loss.

Schroeder, Ou, Lim, Li, Vollmer, Duncan, "Energy Discrepancies: A Score-Independent Loss for Energy-Based Models",
NeurIPS 2023, arXiv 2307.06431.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..checks import require_non_negative, require_positive_int
from ..energies.compose import Tilted
from ..functional.discrepancy import Discrepancy, energy_discrepancy
from ..functional.reference import ReferencedDiscrepancy, referenced_discrepancy
from ..perturbations import Gaussian, Perturbation
from ..typing import Density, Energy, LossOutput

__all__ = ["EnergyDiscrepancy"]


@dataclass(frozen=True, kw_only=True)
class EnergyDiscrepancy:
    """Mean over the batch of :func:`chainfree.functional.energy_discrepancy`.

    Args:
        perturbation: how information is lost; Gaussian noise of variance 1 by default.
        draws: M, energy evaluations per datum beside its own.
        w: weight of the datum among its draws. 1 makes the data density the minimiser for every M.
        chunk: draws evaluated at a time; bounds memory at large M for one more forward pass. ``None``: all at once.
        reference: a density as wide as the data, or ``None``. With it a share of the rows is perturbed beyond recognition,
            and contrasted with draws of this density that they share: see
            :func:`chainfree.functional.referenced_discrepancy`. Where the energy is tilted from a base, the base: their
            densities cancel, and it is not asked for them.
        share: of these rows, above 0 and at most 1.
        among: draws of the reference that such a row is contrasted with at a time: all at once, or 1 for pairs.

    Raises:
        ValueError: ``draws``, ``among`` or ``chunk`` below 1, ``w`` negative, ``share`` out of its range, or a reference with
            chunks.
    """

    perturbation: Perturbation = field(default_factory=Gaussian)
    draws: int = 4
    w: float = 1.0
    chunk: int | None = None
    reference: Density | None = None
    share: float = 0.5
    among: int | None = None

    def __post_init__(self) -> None:
        require_positive_int("draws", self.draws)
        require_non_negative("w", self.w)
        for name, value in (("chunk", self.chunk), ("among", self.among)):
            if value is not None:
                require_positive_int(name, value)
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, got {self.share!r}")
        if self.chunk is not None and self.reference is not None:
            raise ValueError(
                "draws of a reference are shared and not taken in chunks; lower draws, or leave one of them out"
            )

    def __call__(self, energy: Energy, x: Tensor, /, *, generator: torch.Generator | None = None) -> LossOutput:
        """The scalar loss in nats, with the mean energies of data and draws as metrics.

        Where the energy is a tilt of the reference, they are of the tilt alone: the reference's own density cancels in half
        of the rows and is not computed there.
        """
        result: Discrepancy | ReferencedDiscrepancy
        if self.reference is None:
            result = energy_discrepancy(
                energy,
                x,
                perturbation=self.perturbation,
                draws=self.draws,
                w=self.w,
                chunk=self.chunk,
                generator=generator,
            )
        else:
            result = referenced_discrepancy(
                energy,
                x,
                perturbation=self.perturbation,
                reference=self.reference,
                share=self.share,
                draws=self.draws,
                among=self.among,
                w=self.w,
                relative=energy.network if isinstance(energy, Tilted) and energy.base is self.reference else None,
                generator=generator,
            )
        loss = result.values.mean()
        metrics = {
            "loss": loss.detach(),
            "energy_data": result.data_energy.detach().mean(),
            "energy_draws": result.draw_energy.detach().mean(),
        }
        return LossOutput(loss, metrics)
