r"""The entropy of a latent generator, per sample: surrogates whose gradient is the entropy's.

Let :math:`x = g_\theta(z_0) + \sigma\varepsilon` with standard normal :math:`z_0, \varepsilon`, and
:math:`\bar g(x) = E_{q(z \mid x)}[g(z)]`. The score is :math:`\nabla_x \log q(x) = -(x - \bar g(x))/\sigma^2`, so

.. math:: \nabla_\theta H = E\bigl[(x - \bar g(x)) \cdot \partial_\theta x\bigr] / \sigma^2

(Grathwohl et al., ICLR 2021, arXiv 2010.04230). Two facts make better estimators of it.

*Control variate.* ε is independent of :math:`\partial_\theta g(z_0)`, so :math:`\varepsilon/\sigma` can be taken off the
score: what stays, :math:`(g(z_0) - \bar g(x))/\sigma^2`, lies in the generator's range and has none of the noise of the other
dimensions.

*Covariance identity.* Given x, :math:`z_0` is itself a draw from :math:`q(z \mid x)`, hence

.. math:: \nabla_\theta H = E_x\, \mathrm{Cov}_{q(z \mid x)}\bigl(g_\theta(z), \partial_\theta g_\theta(z)\bigr) / \sigma^2
          = \nabla_\theta\, E\, \frac{\lVert g_\theta(z) - g_\theta(z') \rVert^2}{4\sigma^2}

for independent draws :math:`z, z'` of the posterior, whose law is held fixed. (Subtract the zero
:math:`E[(x - g(z_0)) \cdot \partial_\theta g(z_0)]` from the first formula.) It needs differences of two nearby latents only,
each of the size of the posterior, so nothing of size :math:`1/\sigma` has to cancel.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..checks import ContractError
from ..energies.layers import full_precision

__all__ = ["mixture_log_prob", "pair_surrogate", "score_surrogate"]

_PAIRS = 2**20  # at a time: four megabytes stay in the cache
_LOST = -80.0  # less than the spacing of doubles, even for millions of terms


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(1).sum(1)


def score_surrogate(
    mean: Tensor, noise: Tensor, reconstruction: Tensor, log_sigma: Tensor, *, control_variate: bool = True
) -> Tensor:
    r"""A number per sample whose gradient in θ and σ estimates the entropy's, from an estimate of :math:`\bar g(x)`.

    Unbiased if the reconstruction's error is independent of :math:`z_0` given x. Draws centred on :math:`z_0` are not.

    Args:
        mean: :math:`g(z_0)` with its graph, ``(B, *event)``.
        noise: ε, ``(B, *event)``.
        reconstruction: the estimate of :math:`\bar g(x)`, ``(B, *event)``; detached here.
        log_sigma: the logarithm of σ, a scalar with its graph.
        control_variate: take off the part of the score that is noise, see above; the expectation is the same.

    Returns:
        ``(B,)``. Its value means nothing.
    """
    _require_same("reconstruction", reconstruction, mean)
    sigma = log_sigma.exp()
    variance = sigma.detach().square()
    along = (mean - reconstruction).detach() / variance
    x = mean + sigma * noise
    if control_variate:
        return _dot(along, x) + mean[0].numel() * log_sigma
    return _dot(along + noise / sigma.detach(), x)


def pair_surrogate(first: Tensor, second: Tensor, log_sigma: Tensor) -> Tensor:
    r"""The covariance identity: :math:`\lVert g(z) - g(z')\rVert^2 / 4\sigma^2 + D\log\sigma` of every pair.

    Args:
        first, second: g at two independent draws of :math:`q(z \mid x)`, ``(B, *event)``; a graph in either is used.
        log_sigma: the logarithm of σ, a scalar with its graph.

    Returns:
        ``(B,)``; its gradient in θ and σ estimates the entropy's, its value means nothing.
    """
    _require_same("second", second, first)
    squares = (first - second).flatten(1).square().sum(1)
    return squares * torch.exp(-2 * log_sigma) / 4 + first[0].numel() * log_sigma


def mixture_log_prob(x: Tensor, means: Tensor, log_sigma: Tensor) -> Tensor:
    r""":math:`\log \frac1B\sum_b N(x; m_b, \sigma^2 I)`: a generator's density, by a bank of its means.

    Of a fixed bank it is the exact density of the mixture; of fresh draws of the prior it estimates the generator's, from
    below in the mean unless x was made by a member of the bank, and then from above (Sobolev and Vetrov, NeurIPS 2019,
    arXiv 1909.13668). Good in few dimensions: the kernels must overlap.

    Args:
        x: ``(N, *event)``.
        means: ``(B, *event)``.
        log_sigma: scalar.

    Returns:
        Nats, ``(N,)``. Time is N times B; so is memory where a graph is kept, and else it is bounded.
    """
    if x.shape[1:] != means.shape[1:]:
        raise ContractError(f"rows of shape {tuple(x.shape[1:])} cannot be seen by means of {tuple(means.shape[1:])}")
    x, means = x.flatten(1), means.flatten(1)
    # distances by one matrix product, less what is the same for all means; around the bank's centre, as float32 loses about
    # 1e-7 |x - centre|^2 / sigma^2 nats to cancellation
    centre = means.detach().mean(0)
    x, means = x - centre, means - centre
    precision = torch.exp(-2 * log_sigma)
    offset, outside = -0.5 * precision * means.square().sum(1), -0.5 * precision * x.square().sum(1)
    with full_precision(x):
        parts = [
            _log_sum_exp(torch.addmm(offset, precision * rows, means.T))
            for rows in x.split(max(1, _PAIRS // len(means)))
        ]
    constant = math.log(len(means)) + x.shape[1] * (log_sigma + 0.5 * math.log(2 * math.pi))
    # no mixture is denser than kernels that all lie on x
    return (torch.cat(parts) + outside).clamp_max(math.log(len(means))) - constant


def _log_sum_exp(terms: Tensor) -> Tensor:
    """Over the last axis, without terms that are lost in rounding: exponentials that underflow take many times as long."""
    greatest = terms.detach().amax(1, keepdim=True)
    return (terms - greatest).clamp_min(_LOST).exp().sum(1).log() + greatest.squeeze(1)


def _require_same(name: str, given: Tensor, like: Tensor) -> None:
    if given.shape != like.shape:
        raise ContractError(f"{name} has shape {tuple(given.shape)}, the generator's mean {tuple(like.shape)}")
