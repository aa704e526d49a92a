"""The energy of latents, and where draws of it come from once it is trained."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import require_positive, require_positive_int
from ..energies import Gaussian, Tilted
from ..generators import LatentGenerator
from ..samplers.langevin import langevin
from ..samplers.tilted import sample_tilted
from .model import LatentModel

__all__ = ["GeneratorPrior", "LangevinPrior", "NormalPrior", "ResampledPrior", "latent_prior"]


def latent_prior(network: torch.nn.Module, latent_dim: int) -> Tilted:
    r""":math:`E(z) = f(z) + \tfrac12\lVert z\rVert^2` + const: a standard normal tilted by a network that starts at zero.

    Args:
        network: f, ``(B, latent_dim) -> (B,)``.
        latent_dim: features of z.
    """
    require_positive_int("latent_dim", latent_dim)
    return Tilted(Gaussian(torch.zeros(latent_dim)), network)


@dataclass(frozen=True, kw_only=True)
class LangevinPrior:
    """Langevin steps on the prior's energy from the standard normal, as :func:`chainfree.samplers.langevin`.

    Args:
        steps: a pass through the prior and back each.
        step_size: h, in squared units of the latents; the defaults' 500 steps of 0.04 are of the energy discrepancy paper,
            whose 0.2 is its root.
    """

    steps: int = 500
    step_size: float = 0.04

    def __post_init__(self) -> None:
        require_positive_int("steps", self.steps)
        require_positive("step_size", self.step_size)

    def latents(self, model: LatentModel, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """``n`` draws, ``(n, latent_dim)``, without a graph."""
        start = model.decoder.latents(n, generator)
        return langevin(model.prior, start, steps=self.steps, step_size=self.step_size, generator=generator)


@dataclass(frozen=True, kw_only=True)
class GeneratorPrior:
    """Draws of a generator of latents, in one pass: :func:`chainfree.fitting.fit_generator` fits one to the prior's energy.

    Args:
        generator: of rows ``(latent_dim,)``.
    """

    generator: LatentGenerator

    @torch.no_grad()
    def latents(self, model: LatentModel, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """``n`` draws, ``(n, latent_dim)``, without a graph."""
        return self.generator.sample(n, generator=generator).x


@dataclass(frozen=True, kw_only=True)
class ResampledPrior:
    """Draws of a tilted prior's base, each chosen among its proposals by the tilt: :func:`chainfree.samplers.sample_tilted`.

    Where the base is near the energy: that of :func:`chainfree.fitting.fit_latent_prior` is, a standard normal is not.

    Args:
        proposals: for each draw.
    """

    proposals: int = 16

    def __post_init__(self) -> None:
        require_positive_int("proposals", self.proposals)

    def latents(self, model: LatentModel, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """``n`` draws, ``(n, latent_dim)``, without a graph.

        Raises:
            TypeError: the prior is not tilted from a base.
        """
        if not isinstance(model.prior, Tilted):
            raise TypeError(
                f"the prior must be tilted from a base, got {type(model.prior).__name__}; use LangevinPrior"
            )
        return sample_tilted(model.prior, n, proposals=self.proposals, generator=generator).x


@dataclass(frozen=True)
class NormalPrior:
    """Draws of the standard normal, whatever the energy: a variational autoencoder's prior."""

    def latents(self, model: LatentModel, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """``n`` draws, ``(n, latent_dim)``, without a graph."""
        return model.decoder.latents(n, generator).detach()
