r"""What every latent generator shares: :math:`x = g(z) + \sigma\varepsilon` with z and ε standard normal."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from ..checks import ContractError, require_positive, require_positive_int
from ..energies.layers import full_precision
from .normalisation import BatchNorm, Statistics, applying, collecting

__all__ = ["Draw", "LatentGenerator"]


class Draw(NamedTuple):
    """What :meth:`LatentGenerator.sample` returns; all but ``z`` and ``noise`` carry the generator's graph.

    With ``statistics`` any other latents can be decoded by the function that made these samples, also after the generator
    has seen other batches. Their graph lives as long as the draw.

    Args:
        x: samples, ``(B, *event)``: ``mean + sigma * noise``.
        z: the latents that made them, ``(B, latent_dim)``.
        mean: g(z), ``(B, *event)``.
        noise: ε, ``(B, *event)``.
        statistics: of every batch norm, in the order of the pass; none in evaluation mode.
    """

    x: Tensor
    z: Tensor
    mean: Tensor
    noise: Tensor
    statistics: Statistics = ()

    def first(self, n: int | None) -> Draw:
        """Its first ``n`` rows, or all; the statistics stay those of the whole batch."""
        return Draw(self.x[:n], self.z[:n], self.mean[:n], self.noise[:n], self.statistics)

    @property
    def constants(self) -> Statistics:
        """The statistics without their graph, for passes that no parameter is to be differentiated through."""
        return tuple((mean.detach(), variance.detach()) for mean, variance in self.statistics)


class LatentGenerator(nn.Module, ABC):
    r"""A network g with one learned noise scale: :math:`q(x \mid z) = N(g(z), \sigma^2 I)`, :math:`q(z) = N(0, I)`.

    Grathwohl et al., "No MCMC for Me", ICLR 2021, arXiv 2010.04230, section 3.

    A subclass defines :meth:`forward`. The pass of :meth:`sample` takes batch statistics, if there are any, and hands them
    out with the draw. With them :meth:`decode` applies the same function to other latents, and has the same derivatives in
    the parameters, so that a posterior never sees another generator than the samples did. Neither is in half precision,
    whatever autocast says: differences of the size of σ are divided by its square.

    Args:
        latent_dim: features of z.
        event_shape: of one sample, ``(D,)`` for tables and ``(C, H, W)`` for images.
        sigma: the noise scale at the start, in units of the data.
        sigma_bounds: where :meth:`constrain` holds it; equal ones for a scale that is not trained.

    Raises:
        ValueError: a size below 1, or a ``sigma`` outside its bounds.
    """

    def __init__(
        self,
        latent_dim: int,
        event_shape: Sequence[int],
        *,
        sigma: float = 0.1,
        sigma_bounds: tuple[float, float] = (0.01, 0.3),
    ) -> None:
        super().__init__()
        require_positive_int("latent_dim", latent_dim)
        for length in event_shape:
            require_positive_int("event_shape", length)
        low, high = sigma_bounds
        require_positive("sigma_bounds", low)
        if not low <= sigma <= high < math.inf:
            raise ValueError(f"sigma must lie within sigma_bounds, got {sigma!r} and {(low, high)!r}")
        self.latent_dim = latent_dim
        self.event_shape = tuple(event_shape)
        # where it can only stay it is no parameter: its gradient would be all that a clipped norm leaves room for
        self.log_sigma = nn.Parameter(torch.tensor(math.log(sigma)), requires_grad=low < high)
        self._log_sigma_bounds = math.log(low), math.log(high)

    choosing: ClassVar[int] = 0  # leading latents that choose one of g's pieces, and along which these are flat

    @abstractmethod
    def forward(self, z: Tensor) -> Tensor:
        """The mean g(z), ``(B, latent_dim) -> (B, *event)``; in training mode batch statistics are taken here."""

    @property
    def sigma(self) -> Tensor:
        """The noise scale, a positive scalar with its graph."""
        return self.log_sigma.exp()

    @property
    def dim(self) -> int:
        """Numbers in one sample, D."""
        return math.prod(self.event_shape)

    @torch.no_grad()
    def constrain(self) -> None:
        """Put the noise scale back into its bounds; the engine calls this after every step."""
        self.log_sigma.clamp_(*self._log_sigma_bounds)

    def latents(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draws from the prior, ``(n, latent_dim)``."""
        like = self.log_sigma
        return torch.randn(n, self.latent_dim, generator=generator, device=like.device, dtype=like.dtype)

    def sample(self, n: int, /, *, generator: torch.Generator | None = None) -> Draw:
        """``n`` independent samples with the latents and the noise that made them.

        Raises:
            ContractError: :meth:`forward` does not return ``(n, *event)``.
        """
        z = self.latents(n, generator)
        with full_precision(z), collecting() as taken:
            mean: Tensor = self(z)
        if mean.shape != (n, *self.event_shape):
            raise ContractError(
                f"{type(self).__name__} returned shape {tuple(mean.shape)} for {n} latents; "
                f"return {(n, *self.event_shape)}"
            )
        noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        return Draw(mean + self.sigma * noise, z, mean, noise, tuple(taken))

    def decode(self, z: Tensor, statistics: Statistics = ()) -> Tensor:
        """g(z) with these batch statistics; nothing of the generator changes.

        Args:
            z: ``(B, latent_dim)``.
            statistics: :attr:`Draw.statistics`, to differentiate in the parameters as the draw's own pass does, or
                :attr:`Draw.constants`. Without any the running averages are used, which is for evaluation mode.

        Raises:
            ContractError: no statistics for batch norms in training mode, or not as many as there are batch norms.
        """
        if statistics:
            with full_precision(z), applying(statistics):
                given: Tensor = self(z)
            return given
        if any(isinstance(module, BatchNorm) and module.training for module in self.modules()):
            raise ContractError(
                f"{type(self).__name__} has batch norms in training mode, so decode needs the statistics of a draw; pass "
                "draw.statistics, or use eval() for the running averages"
            )
        with full_precision(z):
            mean: Tensor = self(z)
        return mean

    @torch.no_grad()
    def recalibrate(self, n: int, *, batches: int = 50, generator: torch.Generator | None = None) -> None:
        """Take the running statistics of batch norms anew, over ``batches`` batches of ``n`` samples with equal weight.

        Averaged weights never made the statistics that were copied along with them. Nothing happens without batch norms;
        the mode stays as it was.
        """
        norms = [module for module in self.modules() if isinstance(module, BatchNorm)]
        if not norms:
            return
        require_positive_int("batches", batches)
        training, momenta = self.training, [norm.momentum for norm in norms]
        self.train()
        try:
            for batch in range(batches):
                for norm in norms:
                    norm.momentum = 1 / (batch + 1)  # the first forgets what was there
                z = self.latents(n, generator)
                with full_precision(z):
                    self(z)
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
            self.train(training)

    def log_likelihood(self, x: Tensor, mean: Tensor) -> Tensor:
        r""":math:`\log N(x; g(z), \sigma^2 I)` of every row in nats, ``(..., *event) -> (...)``; ``mean`` is g(z)."""
        axes = tuple(range(-len(self.event_shape), 0))
        squares = (x - mean).square().sum(dim=axes) / self.sigma.square()
        return -0.5 * squares - self.dim * (self.log_sigma + 0.5 * math.log(2 * math.pi))


def log_prior(z: Tensor) -> Tensor:
    """Log-density of a standard normal in nats, ``(..., K) -> (...)``."""
    return -0.5 * z.square().sum(-1) - 0.5 * z.shape[-1] * math.log(2 * math.pi)
