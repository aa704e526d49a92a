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

The probe is drawn in latents :math:`u = D^{1/2} z` with a positive diagonal D, where A is
:math:`\tilde A = D^{-1/2} A D^{-1/2}`. The trace is the same for every D, and a diagonal of ones makes it easier for the
solver where latents differ in how far they reach. D is a running average of Bekas, Kokiopoulou and Saad's estimate ("An
estimator for the diagonal of a matrix", 2007), :math:`A_{ii} = E\,D_i\,\xi_i (\tilde A \xi)_i`, of which the solver's first
product is a draw.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from ..checks import ContractError, require_positive_int
from ..energies.layers import full_precision
from ..generators.base import Draw, LatentGenerator
from ..generators.normalisation import Statistics
from .base import EntropyEstimate

__all__ = ["LocalVolume"]

_MEMORY = 0.9  # of the running average, a call


class LocalVolume(nn.Module):
    r"""See the module: Gaussian posteriors around the generating latents, by conjugate gradients.

    What it cannot see: where two far sheets of the generator cross, the mass of the other one. In few dimensions
    :class:`chainfree.entropy.PriorBank` does.

    In training mode every call brings the buffer ``diagonal`` up to date, after it was used: a call's probes are independent
    of it. In evaluation mode calls leave it alone.

    Args:
        latent_dim: of the generator.
        iterations: of conjugate gradients, one forward and one backward pass each. With as many as latents the solution
            is exact; more are never taken. What counts is the spread of the *squared* slopes of g relative to
            :math:`\sigma^2`, that is of the eigenvalues of A, once its diagonal is made one. Two do where they are alike.
            Where principal directions are the latents' own axes, four pass on all of the gradient from the second call on.
            Where they are rotated against them and the eigenvalues lie orders of magnitude apart, four pass on less; the
            metric ``solver_residual`` tells, and more iterations mend it.

    Raises:
        ValueError: ``latent_dim`` or ``iterations`` below 1.
    """

    diagonal: Tensor

    def __init__(self, latent_dim: int, *, iterations: int = 4) -> None:
        super().__init__()
        require_positive_int("latent_dim", latent_dim)
        require_positive_int("iterations", iterations)
        self.latent_dim, self.iterations = latent_dim, iterations
        # D; zeros before the first call, which is told apart without asking the device
        self.register_buffer("diagonal", torch.zeros(latent_dim))

    @property
    def passes(self) -> float:
        """At most, for latents enough: the surrogate's forward derivative and its backward pass, 2 + 4; the point itself,
        1; a backward pass an iteration, 2, and a forward one for every iteration but the first, 1.

        Other devices than the CPU take a forward derivative in place of the last, 1 more each.
        """
        return 6 + 3 * self.iterations

    def forward(self, net: LatentGenerator, draw: Draw, *, generator: torch.Generator | None = None) -> EntropyEstimate:
        """The estimate; metric ``solver_residual`` is the probes' mean relative residual, squared, in the latents u.

        Raises:
            ContractError: the generator has another number of latents.
        """
        if draw.z.shape[1] != self.latent_dim:
            raise ContractError(
                f"{type(self).__name__} is of {self.latent_dim} latents, the generator of {draw.z.shape[1]}; "
                "make it with the generator's latent_dim"
            )
        probe = _rademacher(draw.z, generator)
        whiten = self.diagonal.to(draw.z).clamp_min(1).rsqrt()
        # with the generator's graph: this is what the entropy's gradient flows through, and the solver's first product
        pushed = push_forward(net, draw.z, whiten * probe, draw.statistics)
        image, product, residual = self._solve(net, draw, probe, whiten, pushed.detach())
        if self.training:
            self._average((probe * product).mean(0) / whiten.square())
        variance = net.sigma.detach().square()
        along = image / variance
        volume = (along * pushed).flatten(1).sum(1)
        # d/d log sigma of log det(I + J'J / sigma^2) / 2 is minus the trace that `volume` estimates
        surrogate = volume + (net.dim - volume.detach()) * net.log_sigma
        return EntropyEstimate(surrogate, {"solver_residual": residual})

    @torch.no_grad()
    def _average(self, found: Tensor) -> None:
        """Towards this call's estimate, or to it if it is the first; no element of A's diagonal is below 1."""
        weight = torch.where(self.diagonal > 0, 1 - _MEMORY, 1.0).to(self.diagonal)
        self.diagonal.lerp_(found.to(self.diagonal).clamp_min(1), weight)

    def _solve(
        self, net: LatentGenerator, draw: Draw, probe: Tensor, whiten: Tensor, pushed: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """``J~ A~^-1 probe``, ``A~ probe``, and what is left of the residual. ``pushed`` is J~ times the probe."""
        z, statistics, variance = draw.z, draw.constants, net.sigma.detach().square()
        with torch.enable_grad():
            at = z.detach().requires_grad_(True)
            primal = net.decode(at, statistics)
        last = min(self.iterations, net.latent_dim)
        base = primal.detach()
        image, first = torch.zeros_like(pushed), probe
        direction, residual = probe, probe
        squares = start = residual.square().sum(1)
        for iteration in range(last):
            if iteration > 0:
                pushed = _slope(net, z, base, whiten * direction, statistics)
            with full_precision(z):  # autocast would reach into the derivative
                (pulled,) = torch.autograd.grad(primal, at, pushed, retain_graph=iteration + 1 < last)
            product = whiten.square() * direction + whiten * pulled / variance
            if iteration == 0:
                first = product
            step = squares / _positive((direction * product).sum(1))
            image = image + pushed * step.view(-1, *[1] * (pushed.dim() - 1))
            residual = residual - step.unsqueeze(1) * product
            following = residual.square().sum(1)
            direction = residual + (following / _positive(squares)).unsqueeze(1) * direction
            squares = following
        return image, first, (squares / start).mean()


def push_forward(net: LatentGenerator, z: Tensor, tangent: Tensor, statistics: Statistics = ()) -> Tensor:
    """The derivative of g at ``z`` along ``tangent``, ``(B, *event)``, by forward differentiation; keeps the graph."""
    with forward_ad.dual_level():
        mean = net.decode(forward_ad.make_dual(z, tangent), statistics)
        pushed: Tensor | None = forward_ad.unpack_dual(mean).tangent
    if pushed is None:  # a generator that does not depend on its latents
        raise ValueError(f"{type(net).__name__} is constant in its latents, so it has no local volume")
    return pushed


@torch.no_grad()
def _slope(net: LatentGenerator, z: Tensor, base: Tensor, tangent: Tensor, statistics: Statistics) -> Tensor:
    """The same without a graph."""
    if z.device.type == "cpu":
        return _difference(net, z, base, tangent, statistics)
    # other devices may round a convolution's inputs to ten bits (TF32), and a difference would be of the rounding
    return push_forward(net, z, tangent, statistics)


@torch.no_grad()
def _difference(net: LatentGenerator, z: Tensor, base: Tensor, tangent: Tensor, statistics: Statistics) -> Tensor:
    """By a difference: one pass where the derivative takes two and three times as long.

    The step is the square root of the rounding error, in units of z, so half of the digits are right with smooth activations,
    and fewer with kinked ones, as units switch within the step. The solver's answer only has to be near.
    """
    if net.choosing:  # the step would now and then end in another piece
        tangent = torch.cat([torch.zeros_like(tangent[:, : net.choosing]), tangent[:, net.choosing :]], 1)
    size = torch.finfo(z.dtype).eps ** 0.5 * (1 + z.norm(dim=1)) / _positive(tangent.norm(dim=1))
    ahead = net.decode(z + size.unsqueeze(1) * tangent, statistics)
    slope: Tensor = (ahead - base) / size.view(-1, *[1] * (base.dim() - 1))
    return slope


def _rademacher(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Signs: of all probes with unit variance those whose quadratic forms vary least."""
    bits = torch.randint(0, 2, like.shape, generator=generator, device=like.device)
    return (2 * bits - 1).to(like.dtype)


def _positive(values: Tensor) -> Tensor:
    """Away from zero: a row that is solved before the others is divided by nothing."""
    return values.clamp_min(torch.finfo(values.dtype).tiny)
