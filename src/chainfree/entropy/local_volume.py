r"""The entropy gradient by the generator's local volume: the default.

By the covariance identity (:mod:`chainfree.functional.entropy`) the gradient needs no posterior *mean*, where errors of the
size of the curvature are divided by :math:`\sigma^2`, only the posterior's *spread* around :math:`z_0`. To first order that
is the Gaussian of precision :math:`A = I + J^\top J/\sigma^2`, J the Jacobian of g at :math:`z_0`, and the identity becomes

.. math:: \nabla_\theta H \approx E\,\mathrm{tr}(A^{-1} J^\top \partial_\theta J)/\sigma^2
          = \nabla_\theta E\,\tfrac12 \log\det(I + J^\top J/\sigma^2),

exact for linear generators, and with an error of second order in :math:`\sigma` for curved ones. The trace is Hutchinson's
estimate with one probe a sample, and :math:`A^{-1}` conjugate gradients. The probe sees a quadratic form, for which k
iterations have the accuracy of 2k steps of the solver (Golub and Meurant, "Matrices, Moments and Quadrature", 2010).
The same trace without the ridge is used for injective flows by Caterini et al., "Rectangular Flows for Manifold Learning",
NeurIPS 2021, arXiv 2106.01413.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ..checks import require_positive_int
from ..energies.layers import full_precision
from ..generators.base import Draw, LatentGenerator
from .base import EntropyEstimate

__all__ = ["LocalVolume"]


@dataclass(frozen=True, kw_only=True)
class LocalVolume:
    """See the module: Gaussian posteriors around the generating latents, by conjugate gradients.

    What it cannot see: where two far sheets of the generator cross, the mass of the other one. In few dimensions
    :class:`chainfree.entropy.PriorBank` does.

    Args:
        iterations: of conjugate gradients, one forward and one backward pass each. With as many as latents the solution
            is exact; more are never taken. Two do where the slopes of g are alike in all directions; where they span two
            orders of magnitude, four pass on nine tenths of the gradient and six nearly all of it.

    Raises:
        ValueError: ``iterations`` below 1.
    """

    iterations: int = 4

    def __post_init__(self) -> None:
        require_positive_int("iterations", self.iterations)

    @property
    def passes(self) -> float:
        """At most, for latents enough: the surrogate's forward derivative and its backward pass, 2 + 4; the point itself,
        1; a backward pass an iteration, 2, and a forward one for every iteration but the first, 1.
        """
        return 6 + 3 * self.iterations

    def __call__(
        self, net: LatentGenerator, draw: Draw, *, generator: torch.Generator | None = None
    ) -> EntropyEstimate:
        """The estimate; metric ``solver_residual`` is the probes' mean relative residual, squared."""
        probe = _rademacher(draw.z, generator)
        # with the generator's graph: this is what the entropy's gradient flows through, and the solver's first product
        pushed = push_forward(net, draw.z, probe)
        image, residual = self._solve(net, draw.z, probe, pushed.detach())
        variance = net.sigma.detach().square()
        along = image / variance
        volume = (along * pushed).flatten(1).sum(1)
        # d/d log sigma of log det(I + J'J / sigma^2) / 2 is minus the trace that `volume` estimates
        surrogate = volume + (net.dim - volume.detach()) * net.log_sigma
        return EntropyEstimate(surrogate, {"solver_residual": residual})

    def _solve(self, net: LatentGenerator, z: Tensor, probe: Tensor, pushed: Tensor) -> tuple[Tensor, Tensor]:
        """``J A^-1 probe`` and what is left of the residual. ``pushed`` is J times the probe."""
        variance = net.sigma.detach().square()
        with torch.enable_grad():
            at = z.detach().requires_grad_(True)
            primal = net.decode(at)
        last = min(self.iterations, net.latent_dim)
        base = primal.detach()
        image = torch.zeros_like(pushed)
        direction, residual = probe, probe
        squares = start = residual.square().sum(1)
        for iteration in range(last):
            if iteration > 0:
                pushed = _difference(net, z, base, direction)
            with full_precision(z):  # autocast would reach into the derivative
                (pulled,) = torch.autograd.grad(primal, at, pushed, retain_graph=iteration + 1 < last)
            product = direction + pulled / variance
            step = squares / _positive((direction * product).sum(1))
            image = image + pushed * step.view(-1, *[1] * (pushed.dim() - 1))
            residual = residual - step.unsqueeze(1) * product
            following = residual.square().sum(1)
            direction = residual + (following / _positive(squares)).unsqueeze(1) * direction
            squares = following
        return image, (squares / start).mean()


def push_forward(net: LatentGenerator, z: Tensor, tangent: Tensor) -> Tensor:
    """The derivative of g at ``z`` along ``tangent``, ``(B, *event)``, by forward differentiation; keeps the graph."""
    with forward_ad.dual_level():
        pushed: Tensor | None = forward_ad.unpack_dual(net.decode(forward_ad.make_dual(z, tangent))).tangent
    if pushed is None:  # a generator that does not depend on its latents
        raise ValueError(f"{type(net).__name__} is constant in its latents, so it has no local volume")
    return pushed


@torch.no_grad()
def _difference(net: LatentGenerator, z: Tensor, base: Tensor, tangent: Tensor) -> Tensor:
    """The same without a graph, by a difference: one pass where the derivative takes two and three times as long.

    The step is the square root of the rounding error, in units of z, so half of the digits are right: an error of 1e-3 in
    float32, which the solver, a few iterations from its end, never feels.
    """
    size = torch.finfo(z.dtype).eps ** 0.5 * (1 + z.norm(dim=1)) / _positive(tangent.norm(dim=1))
    ahead = net.decode(z + size.unsqueeze(1) * tangent)
    slope: Tensor = (ahead - base) / size.view(-1, *[1] * (base.dim() - 1))
    return slope


def _rademacher(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Signs: of all probes with unit variance those whose quadratic forms vary least."""
    bits = torch.randint(0, 2, like.shape, generator=generator, device=like.device)
    return (2 * bits - 1).to(like.dtype)


def _positive(values: Tensor) -> Tensor:
    """Away from zero: a row that is solved before the others is divided by nothing."""
    return values.clamp_min(torch.finfo(values.dtype).tiny)
