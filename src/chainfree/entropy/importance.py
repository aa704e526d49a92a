"""The paper's estimator: importance-weighted draws around the generating latent.

Grathwohl et al., "No MCMC for Me: Amortized Sampling for Fast and Stable Training of Energy-Based Models", ICLR 2021,
arXiv 2010.04230.
"""

from __future__ import annotations

import torch

from ..checks import require_positive_int
from ..generators.base import Draw, LatentGenerator
from .posterior import LearnedPosterior, Reconstruction, weighted_reconstruction

__all__ = ["ImportancePosterior"]


class ImportancePosterior(LearnedPosterior):
    r"""Self-normalised draws of :math:`N(z_0, \mathrm{diag}\,\eta^2)`.

    The draws are centred on the latent that made x, so their mean is not independent of it, and the entropy's gradient comes
    out too small: the more so the more latents there are (``results/vera_entropy_bias_variance.json``). Kept because it is
    the paper's; :class:`chainfree.entropy.LocalVolume` is the default.

    Args:
        latent_dim: of the generator.
        draws: K.
        chunk: draws at a time, to bound memory; ``None`` for all at once.
        scale, control_variate: see :class:`LearnedPosterior`.
    """

    def __init__(
        self,
        latent_dim: int,
        *,
        draws: int = 20,
        chunk: int | None = 4,
        scale: float = 0.1,
        control_variate: bool = False,
    ) -> None:
        super().__init__(latent_dim, scale=scale, control_variate=control_variate)
        require_positive_int("draws", draws)
        if chunk is not None:
            require_positive_int("chunk", chunk)
        self.draws, self.chunk = draws, chunk

    @property
    def passes(self) -> float:
        """One forward pass a draw, and the bound's forward and backward."""
        return self.draws + 3.0

    def reconstruct(self, net: LatentGenerator, draw: Draw, generator: torch.Generator | None = None) -> Reconstruction:
        """See :func:`weighted_reconstruction`."""
        return weighted_reconstruction(
            net,
            draw.x.detach(),
            draw.z,
            self.scale.detach(),
            draws=self.draws,
            statistics=draw.constants,
            chunk=self.chunk,
            generator=generator,
        )
