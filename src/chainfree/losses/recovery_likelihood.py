"""Recovery likelihood at one noise level as a training loss.

Gao, Song, Poole, Wu, Kingma, "Learning Energy-Based Models by Diffusion Recovery Likelihood", ICLR 2021, arXiv 2012.08125;
Bengio, Yao, Alain, Vincent, "Generalized Denoising Auto-Encoders as Generative Models", NeurIPS 2013.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from ..checks import energy_values, require_floats, require_non_negative, require_positive
from ..samplers.chain import Chain
from ..typing import Energy, LossOutput
from .contrastive_divergence import contrast_output

__all__ = ["RecoveryLikelihood"]


@dataclass(frozen=True, kw_only=True)
class RecoveryLikelihood:
    r"""The likelihood of a datum given its noised copy :math:`\tilde x = x + \sigma\varepsilon`, by chains on the recovery.

    .. math::
        p(x \mid \tilde x) \propto \exp\bigl(-E(x) - \lVert x - \tilde x\rVert^2 / 2\sigma^2\bigr), \quad
        E_p[E(x)] - E[E(x')], \; x' \sim p(\cdot \mid \tilde x)

    The copy's pull makes the recovery nearly unimodal, so chains that start in it need few steps. It is energy
    discrepancy's cousin: there the same posterior is reached by importance weights of Gaussian draws, here by steps. With
    chains long enough to forget the copy the maximiser over all energies is the data's density; short ones, and steps
    that are not adjusted, make it too steep. What noise of size σ does not join is compared by nothing.

    Args:
        scale: σ, in units of the data.
        chain: steps on the recovery; their size in units of :math:`\sigma^2`.
        energy_square: as in :class:`chainfree.losses.ContrastiveDivergence`.

    Raises:
        ValueError: ``scale`` is not above 0, or ``energy_square`` is negative.
    """

    scale: float = 0.5
    chain: Chain = field(default_factory=lambda: Chain(steps=10, step_size=0.5, adjusted=True))
    energy_square: float = 0.0

    def __post_init__(self) -> None:
        require_positive("scale", self.scale)
        require_non_negative("energy_square", self.energy_square)

    def __call__(self, energy: Energy, x: Tensor, /, *, generator: torch.Generator | None = None) -> LossOutput:
        """The scalar loss in nats, with the mean energies of data and recoveries as metrics."""
        require_floats(x, "the recovery likelihood")
        noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        # in units of the scale: the chain's step size is then in those of its square
        noised = x / self.scale + noise
        recovery = partial(_recovery_energy, energy, noised, self.scale)
        ends = self.chain(recovery, noised, generator=generator)
        return contrast_output(energy, x, self.scale * ends, self.energy_square)


def _recovery_energy(energy: Energy, noised: Tensor, scale: float, x: Tensor) -> Tensor:
    return energy_values(energy, scale * x) + 0.5 * (x - noised).flatten(1).square().sum(1)
