"""Hamiltonian Monte Carlo in the posterior: the reference, at a reference's price."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from ..checks import require_non_negative, require_positive, require_positive_int
from ..functional.entropy import pair_surrogate, score_surrogate
from ..generators.base import Draw, LatentGenerator
from .base import EntropyEstimate
from .posterior import Reconstruction, log_joint

__all__ = ["HMCPosterior"]

_ADAPTATION = 0.02  # change of the step's logarithm per unit of acceptance above its target


class HMCPosterior(nn.Module):
    r"""Metropolis-corrected draws of :math:`q(z \mid x)` started at :math:`z_0`, which is one already.

    Neal, "MCMC using Hamiltonian dynamics", 2011; as an entropy estimator Grathwohl et al., 2021, and Titsias and Ruiz,
    "Unbiased Implicit Variational Inference", AISTATS 2019, arXiv 1808.02078. Few draws stay close to :math:`z_0`; the
    gradient is right in the limit of many.

    Args:
        burn_in: transitions before the first kept one.
        keep: transitions whose states are averaged.
        leapfrog: steps a transition.
        step_size: of the leapfrog at the start, in units of the latents; a buffer that adapts to ``target``.
        target: mean acceptance aimed at.
        identity: the surrogate: ``score`` as in the paper, or ``covariance`` of :math:`z_0` and the last state, far less
            noisy (:func:`chainfree.functional.pair_surrogate`).
    """

    step_size: Tensor

    def __init__(
        self,
        *,
        burn_in: int = 2,
        keep: int = 2,
        leapfrog: int = 5,
        step_size: float = 0.05,
        target: float = 0.67,
        identity: Literal["score", "covariance"] = "score",
    ) -> None:
        super().__init__()
        require_non_negative("burn_in", burn_in)
        require_positive_int("keep", keep)
        require_positive_int("leapfrog", leapfrog)
        require_positive("step_size", step_size)
        if not 0 < target < 1:
            raise ValueError(f"target must be an acceptance rate between 0 and 1, got {target!r}")
        if identity not in ("score", "covariance"):
            raise ValueError(f"identity must be 'score' or 'covariance', got {identity!r}")
        self.burn_in, self.keep, self.leapfrog = burn_in, keep, leapfrog
        self.target, self.identity = target, identity
        self.register_buffer("step_size", torch.tensor(float(step_size)))

    @property
    def passes(self) -> float:
        """Forward and backward a leapfrog step and at the start; for the covariance the last state's own pass too."""
        return 3.0 * (1 + (self.burn_in + self.keep) * self.leapfrog) + (3.0 if self.identity == "covariance" else 0.0)

    def forward(self, net: LatentGenerator, draw: Draw, *, generator: torch.Generator | None = None) -> EntropyEstimate:
        """The surrogate; metrics ``acceptance`` and ``hmc_step_size``."""
        found, last, acceptance = self._run(net, draw, generator)
        if self.identity == "covariance":
            surrogate = pair_surrogate(draw.mean, net.decode(last, draw.statistics), net.log_sigma)
        else:
            surrogate = score_surrogate(draw.mean, draw.noise, found.values, net.log_sigma)
        return EntropyEstimate(surrogate, {"acceptance": acceptance, "hmc_step_size": self.step_size.clone()})

    def reconstruct(self, net: LatentGenerator, draw: Draw, generator: torch.Generator | None = None) -> Reconstruction:
        """The posterior mean of g(z) over the kept states, without a graph."""
        return self._run(net, draw, generator)[0]

    def _run(
        self, net: LatentGenerator, draw: Draw, generator: torch.Generator | None
    ) -> tuple[Reconstruction, Tensor, Tensor]:
        x, z = draw.x.detach(), draw.z.detach()
        constants = draw.constants
        density, gradient, mean = log_joint(net, x, z, constants)
        sums, accepted = torch.zeros_like(x), torch.zeros((), dtype=x.dtype, device=x.device)
        ones = [1] * (x.dim() - 1)
        for transition in range(self.burn_in + self.keep):
            start = torch.randn(z.shape, generator=generator, device=z.device, dtype=z.dtype)
            # a step of random length: a fixed one can be a multiple of an orbit
            step = self.step_size * (0.8 + 0.4 * torch.rand((), generator=generator, device=z.device, dtype=z.dtype))
            there, momentum, slope = z, start, gradient
            for _ in range(self.leapfrog):
                momentum = momentum + 0.5 * step * slope
                there = there + step * momentum
                there_density, slope, there_mean = log_joint(net, x, there, constants)
                momentum = momentum + 0.5 * step * slope
            change = there_density - density - 0.5 * (momentum.square().sum(1) - start.square().sum(1))
            probability = torch.nan_to_num(change, nan=-math.inf).clamp_max(0).exp()
            ok = torch.rand(len(z), generator=generator, device=z.device, dtype=z.dtype) < probability
            z, gradient = torch.where(ok[:, None], there, z), torch.where(ok[:, None], slope, gradient)
            density = torch.where(ok, there_density, density)
            mean = torch.where(ok.view(-1, *ones), there_mean, mean)
            self.step_size.mul_(torch.exp(_ADAPTATION * (probability.mean() - self.target)))
            accepted += probability.mean()
            if transition >= self.burn_in:
                sums += mean
        return Reconstruction(sums / self.keep), z, accepted / (self.burn_in + self.keep)
