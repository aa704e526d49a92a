r"""Posteriors around the generating latent, :math:`\xi(z \mid z_0) = N(z_0, \mathrm{diag}\,\eta^2)`, with a learned scale."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..checks import ContractError, require_positive, require_positive_int
from ..energies.layers import full_precision
from ..functional.entropy import score_surrogate
from ..generators.base import Draw, LatentGenerator, log_prior
from ..generators.normalisation import Statistics
from .base import EntropyEstimate

__all__ = ["LearnedPosterior", "LogJoint", "Reconstruction", "log_joint", "weighted_reconstruction"]


class Reconstruction(NamedTuple):
    """An estimate of the posterior mean of g(z).

    Args:
        values: ``(B, *event)``, detached.
        effective_sample_size: of the weights, mean over the batch; ``None`` where draws are not weighted.
    """

    values: Tensor
    effective_sample_size: Tensor | None = None


class LearnedPosterior(nn.Module, ABC):
    r"""An estimator whose scale η, one number a latent, is a player of its own.

    It maximises the one-draw bound :math:`\log q(x, z) + H(\xi)` with x detached.

    Args:
        latent_dim: of the generator.
        scale: η at the start.
        control_variate: see :func:`chainfree.functional.score_surrogate`; the paper's game has none.
    """

    def __init__(self, latent_dim: int, *, scale: float = 0.1, control_variate: bool = True) -> None:
        super().__init__()
        require_positive_int("latent_dim", latent_dim)
        require_positive("scale", scale)
        self.log_scale = nn.Parameter(torch.full((latent_dim,), math.log(scale)))
        self.control_variate = control_variate

    @property
    def scale(self) -> Tensor:
        """η, ``(latent_dim,)``."""
        return self.log_scale.exp()

    @property
    @abstractmethod
    def passes(self) -> float:
        """See :class:`EntropyEstimator`; the bound's own forward and backward pass are counted."""

    @abstractmethod
    def reconstruct(self, net: LatentGenerator, draw: Draw, generator: torch.Generator | None = None) -> Reconstruction:
        """The posterior mean of g(z), without a graph."""

    def loss(self, net: LatentGenerator, draw: Draw, generator: torch.Generator | None = None) -> Tensor:
        """What this player minimises: the negative bound without its constants, a scalar in nats."""
        self._require_fits(draw)
        z0, x = draw.z.detach(), draw.x.detach()
        z = z0 + self.scale * _normal(z0.shape, z0, generator)
        bound = net.log_likelihood(x, net.decode(z, draw.constants)) + log_prior(z)
        return -(bound.mean() + self.log_scale.sum())

    def forward(self, net: LatentGenerator, draw: Draw, *, generator: torch.Generator | None = None) -> EntropyEstimate:
        """The score surrogate; metric ``posterior_ess``, the effective sample size, where draws are weighted."""
        self._require_fits(draw)
        found = self.reconstruct(net, draw, generator)
        surrogate = score_surrogate(
            draw.mean, draw.noise, found.values, net.log_sigma, control_variate=self.control_variate
        )
        size = found.effective_sample_size
        return EntropyEstimate(surrogate, {} if size is None else {"posterior_ess": size})

    def _require_fits(self, draw: Draw) -> None:
        # a scale of one latent would be broadcast to all, and its entropy counted once
        if draw.z.shape[1:] != self.log_scale.shape:
            raise ContractError(
                f"{type(self).__name__} is of {len(self.log_scale)} latents, the generator of {draw.z.shape[1]}; "
                "make it with the generator's latent_dim"
            )


class LogJoint(NamedTuple):
    """log q(x, z) of every row and what came by, without a graph.

    Args:
        values: nats, ``(B,)``.
        gradient: in z, ``(B, latent_dim)``.
        mean: g(z), ``(B, *event)``.
    """

    values: Tensor
    gradient: Tensor
    mean: Tensor


def log_joint(net: LatentGenerator, x: Tensor, z: Tensor, statistics: Statistics = ()) -> LogJoint:
    """The posterior's logarithm up to a constant, with its gradient: what a step or a chain in it needs.

    Args:
        net: the generator.
        x: ``(B, *event)``.
        z: where, ``(B, latent_dim)``; not asked for a gradient.
        statistics: :attr:`Draw.constants` of the draw that ``x`` is of.
    """
    with torch.enable_grad(), full_precision(x):  # autocast would reach into the derivative
        at = z.detach().requires_grad_(True)
        mean = net.decode(at, statistics)
        values = net.log_likelihood(x, mean) + log_prior(at)
        (gradient,) = torch.autograd.grad(values.sum(), at)
    return LogJoint(values.detach(), gradient, mean.detach())


@torch.no_grad()
def weighted_reconstruction(
    net: LatentGenerator,
    x: Tensor,
    centre: Tensor,
    scale: Tensor,
    *,
    draws: int,
    statistics: Statistics = (),
    chunk: int | None = None,
    generator: torch.Generator | None = None,
) -> Reconstruction:
    r""":math:`\sum_k w_k g(z_k)` with :math:`z_k \sim N(c, \eta^2)` and weights :math:`w_k \propto q(x, z_k)/\xi(z_k)`.

    Self-normalised importance sampling. No graph is kept, and with ``chunk`` no more than that many draws are alive: sums are
    carried along with the largest logarithm seen so far.

    Args:
        net: the generator.
        x: ``(B, *event)``.
        centre: c, ``(B, latent_dim)``.
        scale: η, ``(latent_dim,)``.
        draws: K.
        statistics: of the generator's batch norms, see :meth:`LatentGenerator.decode`.
        chunk: draws at a time; all by default.
        generator: source of randomness.
    """
    rows, top = len(x), x.new_full((len(x),), -math.inf)
    total, squares, sums = torch.zeros_like(top), torch.zeros_like(top), torch.zeros_like(x)
    ones = [1] * (x.dim() - 1)
    for start in range(0, draws, chunk or draws):
        size = min(chunk or draws, draws - start)
        noise = _normal((size, *centre.shape), centre, generator)
        z = centre + scale * noise
        means = net.decode(z.flatten(0, 1), statistics).view(size, rows, *x.shape[1:])
        log_weights = net.log_likelihood(x, means) + log_prior(z) - log_prior(noise)
        largest = torch.maximum(top, log_weights.amax(0))
        carried = torch.exp(top - largest)
        weights = torch.exp(log_weights - largest)
        total = total * carried + weights.sum(0)
        squares = squares * carried.square() + weights.square().sum(0)
        with full_precision(x):
            sums = sums * carried.view(-1, *ones) + torch.einsum("kb,kb...->b...", weights, means)
        top = largest
    return Reconstruction(sums / total.view(-1, *ones), (total.square() / squares).mean())


def _normal(shape: torch.Size | tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)
