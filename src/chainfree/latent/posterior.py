"""Where the latents of rows come from while a latent model is trained, and afterwards."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import require_positive, require_positive_int
from ..samplers.langevin import langevin
from .encoder import GaussianEncoder
from .model import LatentModel

__all__ = ["LangevinPosterior", "RevisedPosterior", "VariationalPosterior"]


@dataclass(frozen=True, kw_only=True)
class LangevinPosterior:
    r"""Short-run Langevin from the standard normal: ``steps`` of :math:`z \leftarrow z - \tfrac h2 \nabla U(z) + \sqrt h\,n`.

    Nijkamp, Hill, Zhu, Wu, "Learning Non-Convergent Non-Persistent Short-Run MCMC", NeurIPS 2019, arXiv 1904.09770. Nothing
    is to be trained, and nothing is remembered of a row.

    Args:
        steps: of each row's chain, a pass through decoder and prior and back each.
        step_size: h, in squared units of the latents; the 0.1 of the LEBM papers is its root.
    """

    steps: int = 20
    step_size: float = 0.01

    def __post_init__(self) -> None:
        require_positive_int("steps", self.steps)
        require_positive("step_size", self.step_size)

    def latents(self, model: LatentModel, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """One draw of each row's latents, ``(B, latent_dim)``, without a graph."""
        start = model.decoder.latents(len(x), generator)
        return langevin(model.given(x), start, steps=self.steps, step_size=self.step_size, generator=generator)


@dataclass(frozen=True, kw_only=True)
class VariationalPosterior:
    """Draws of an encoder that is trained with the decoder, by the evidence lower bound.

    Args:
        encoder: q(z | x).
    """

    encoder: GaussianEncoder

    @torch.no_grad()
    def latents(self, model: LatentModel, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """One draw of each row's latents, ``(B, latent_dim)``, without a graph."""
        return self.encoder.sample(x, generator=generator).z[0]


@dataclass(frozen=True, kw_only=True)
class RevisedPosterior:
    """Draws of an encoder, revised by a few Langevin steps: in training, where the encoder learns from them, or after.

    Xie, Lu, Gao, Zhu, Wu, "Cooperative Training of Descriptor and Generator Networks", IEEE TPAMI 42(1), 2020, with an
    encoder in the place of the generator.

    Args:
        encoder: q(z | x); in training fitted to what its draws are revised to by maximum likelihood.
        steps, step_size: as :class:`LangevinPosterior`.
    """

    encoder: GaussianEncoder
    steps: int = 5
    step_size: float = 0.01

    def __post_init__(self) -> None:
        require_positive_int("steps", self.steps)
        require_positive("step_size", self.step_size)

    def latents(self, model: LatentModel, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """One draw of each row's latents, ``(B, latent_dim)``, without a graph."""
        with torch.no_grad():
            start = self.encoder.sample(x, generator=generator).z[0]
        return langevin(model.given(x), start, steps=self.steps, step_size=self.step_size, generator=generator)
