"""A short Markov chain as a setting: what the losses with chains are made from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import require_non_negative, require_positive, require_positive_int
from ..typing import Energy
from . import mala
from .gradients import MinusEnergy
from .langevin import langevin

__all__ = ["Chain"]


@dataclass(frozen=True, kw_only=True)
class Chain:
    r"""T Langevin steps :math:`x \leftarrow x - \tfrac h2\nabla E(x) + s\,n`.

    Args:
        steps: T.
        step_size: h, in squared units of the data.
        noise: s, in units of the data; :math:`\sqrt h` by default. See :func:`chainfree.samplers.langevin`.
        adjusted: reject by Metropolis and Hastings, so that :math:`e^{-E}` is kept exactly; with the default noise only.

    Raises:
        ValueError: a setting out of its range, or adjusted chains with a noise of their own.
    """

    steps: int = 10
    step_size: float = 0.01
    noise: float | None = None
    adjusted: bool = False

    def __post_init__(self) -> None:
        require_positive_int("steps", self.steps)
        require_positive("step_size", self.step_size)
        if self.noise is not None:
            require_non_negative("noise", self.noise)
            if self.adjusted:
                raise ValueError("adjusted chains have the noise that their step size asks for; leave noise out")

    @torch.no_grad()
    def __call__(self, energy: Energy, x: Tensor, /, *, generator: torch.Generator | None = None) -> Tensor:
        """Where chains that start in the rows ``(B, *event)`` end, a new tensor without a graph.

        Raises:
            ContractError: the energy's shape is not ``(B,)`` or it has no gradient in the rows.
        """
        if not self.adjusted:
            return langevin(
                energy, x, steps=self.steps, step_size=self.step_size, noise=self.noise, generator=generator
            )
        log_density = MinusEnergy(energy)
        state = mala.init(log_density, x)
        for _ in range(self.steps):
            state, _ = mala.step(log_density, state, step_size=self.step_size, generator=generator)
        return state.x
