"""Moves away from the generating latent by preconditioned steps before averaging: decorrelation, not burn-in."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ..checks import require_non_negative, require_positive_int
from ..generators.base import Draw, LatentGenerator
from .posterior import LearnedPosterior, Reconstruction, log_joint, weighted_reconstruction

__all__ = ["PreconditionedSteps"]

# of one step, in units of the scale; with the scale that the bound asks for, gradient steps are about half of one
_REACH = 5.0


class PreconditionedSteps(LearnedPosterior):
    r"""T steps :math:`z \leftarrow z + \tfrac{\eta^2}2 \nabla_z \log q(x, z)` from :math:`z_0`, itself a posterior draw.

    The posterior mean is then estimated at the end point (``"gradient"``), by the mean over the last half of the path with
    the noise :math:`\eta\,n` added to every step (``"langevin"``), or in either case by weighted draws around the end point.
    Whatever decorrelates the end from :math:`z_0` makes the score surrogate right, for linear generators; with curved ones
    the end of a gradient path lacks the posterior's spread, an error that the score divides by :math:`\sigma^2`.

    The gradient moves no coordinate by more than :math:`5\eta` a step. Above :math:`\eta^2 A = 4`, A the posterior's
    precision, steps overshoot by ever more and would leave the floating-point numbers; so they end at most :math:`5T\eta`
    away, while η, whose bound does not depend on them, is on its way to :math:`\eta^2 A_{ii} = 1`.

    Args:
        latent_dim: of the generator.
        steps: T.
        kind: see above.
        draws: weighted draws around the end point; 0 for none.
        chunk: draws at a time.
        scale, control_variate: see :class:`LearnedPosterior`.
    """

    def __init__(
        self,
        latent_dim: int,
        *,
        steps: int = 5,
        kind: Literal["gradient", "langevin"] = "gradient",
        draws: int = 0,
        chunk: int | None = None,
        scale: float = 0.1,
        control_variate: bool = True,
    ) -> None:
        super().__init__(latent_dim, scale=scale, control_variate=control_variate)
        require_positive_int("steps", steps)
        require_non_negative("draws", draws)
        if chunk is not None:
            require_positive_int("chunk", chunk)
        if kind not in ("gradient", "langevin"):
            raise ValueError(f"kind must be 'gradient' or 'langevin', got {kind!r}")
        self.steps, self.kind, self.draws, self.chunk = steps, kind, draws, chunk

    @property
    def passes(self) -> float:
        """Forward and backward a step, the end point or its draws, and the bound's forward and backward."""
        return 3.0 * self.steps + max(1, self.draws) + 3.0

    def reconstruct(self, net: LatentGenerator, draw: Draw, generator: torch.Generator | None = None) -> Reconstruction:
        """Move, then average; only one step's graph is alive at a time."""
        x, z, scale, constants = draw.x.detach(), draw.z, self.scale.detach(), draw.constants
        kept: list[Tensor] = []
        for step in range(self.steps):
            _, gradient, mean = log_joint(net, x, z, constants)
            if self.kind == "langevin" and 2 * step >= self.steps:
                kept.append(mean)
            z = z + (0.5 * scale.square() * gradient).clamp(-_REACH * scale, _REACH * scale)
            if self.kind == "langevin":
                z = z + scale * torch.randn(z.shape, generator=generator, device=z.device, dtype=z.dtype)
        if self.draws:
            return weighted_reconstruction(
                net, x, z, scale, draws=self.draws, statistics=constants, chunk=self.chunk, generator=generator
            )
        with torch.no_grad():
            kept.append(net.decode(z, constants))
        return Reconstruction(torch.stack(kept).mean(0))
