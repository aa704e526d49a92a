r"""The entropy gradient of a curved generator to which estimators of it are compared.

By the covariance identity (:mod:`chainfree.functional.entropy`) it is
:math:`E_x \mathrm{Cov}_{q(z \mid x)}(g, \partial_\theta g)/\sigma^2`, which takes the posterior alone. With two latents the
posterior is summed on a grid. With more a Markov chain from the generating latent, itself a draw of the posterior, is run
until nothing of its start is left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..entropy.posterior import log_joint
from ..functional.entropy import pair_surrogate
from ..generators import Draw, LatentGenerator
from ..generators.base import log_prior
from .entropy_estimators import flat_gradient

__all__ = ["ChainTruth", "GridTruth", "Truth", "chain_truth", "grid_truth"]

_HALF_SIDE = 4.75  # of the grid, in standard deviations of the prior: one draw in half a million lies outside
_ROWS, _NODES = 50, 100_000  # at a time
_LEAPFROG = 8
_STEPS = 0.05, 1.0  # in whitened latents, drawn for each row: what is too long for one bend is not for another
_REFERENCES = 8  # states of the pilot chain that the metric is averaged over
_PAIRS = 8  # states of the second half that are paired with the generating latent


@dataclass(frozen=True)
class Truth:
    """An entropy gradient over a batch.

    Args:
        gradient: in the parameters, one vector; without the part of the noise scale.
        spread: mean of ``|g(z) - g(z')|^2 / 4 sigma^2`` over independent draws of the posterior, nats.
    """

    gradient: Tensor
    spread: float


@dataclass(frozen=True)
class GridTruth(Truth):
    """By quadrature.

    Args:
        finest: least number of nodes, in effect, that a row's posterior is summed over.
    """

    finest: float


@dataclass(frozen=True)
class ChainTruth(Truth):
    """By Markov chains.

    Args:
        half: the same after half of the transitions.
        acceptance: mean, over the last half.
    """

    half: Truth
    acceptance: float


def grid_truth(net: LatentGenerator, draw: Draw, parameters: list[torch.nn.Parameter], *, points: int) -> GridTruth:
    r"""The gradient with posteriors summed over ``points`` x ``points`` nodes of the two latents.

    For smooth posteriors the rectangle rule's error falls faster than any power of the spacing, once that is below their
    width. Nothing random enters beside the samples themselves.

    Args:
        net: two latents.
        draw: of ``net``; only ``x`` is read.
        parameters: of ``net``.
        points: nodes an axis.
    """
    axis = torch.linspace(-_HALF_SIDE, _HALF_SIDE, points, dtype=draw.x.dtype)
    nodes = torch.cartesian_prod(axis, axis)
    x = draw.x.detach().flatten(1)
    variance = float(net.sigma.detach()) ** 2
    with torch.no_grad():
        # single precision from here on: a posterior's logarithm is right to a thousandth, and it takes half the time
        means = torch.cat([net.decode(z).flatten(1) for z in nodes.split(_NODES)])
        centre = means.mean(0)
        g, prior = (means - centre).float(), log_prior(nodes).float()
        prior -= g.square().sum(1) / (2 * variance)
        taken, pulled = torch.zeros(len(nodes)), torch.zeros_like(g)
        spread, finest = 0.0, math.inf
        for rows in (x - centre).float().split(_ROWS):
            weights = torch.softmax(torch.addmm(prior, rows, g.T, alpha=1 / variance), dim=1)
            mean = weights @ g
            taken += weights.sum(0)
            pulled.addmm_(weights.T, mean)
            spread -= float(mean.square().sum()) / (2 * variance)
            finest = min(finest, float(1 / weights.square().sum(1).max()))
        spread += float(taken @ g.square().sum(1)) / (2 * variance)
        # of the posterior means of g' . dg less g-bar' . dg, what every node adds
        along = ((taken.unsqueeze(1) * g - pulled) / (variance * len(x))).to(x.dtype)
    gradient = torch.zeros(())
    busy = taken > 1e-12
    for z, force in zip(nodes[busy].split(_NODES), along[busy].split(_NODES), strict=True):
        gradient = gradient + flat_gradient((force * net.decode(z).flatten(1)).sum(), parameters)
    return GridTruth(gradient, spread / len(x), finest)


def chain_truth(
    net: LatentGenerator,
    draw: Draw,
    parameters: list[torch.nn.Parameter],
    *,
    transitions: int,
    generator: torch.Generator,
) -> ChainTruth:
    r"""The gradient by pairs of the generating latent and states of a Hamiltonian chain that starts there.

    The latents are whitened by the posterior's local precision :math:`I + J^\top J/\sigma^2`, for every row the mean over
    late states of a pilot chain. Fixed by anything but the chain itself, a metric leaves the posterior invariant, and the
    pilot's late states know of the start only what its own mixing left. A second, equally long stretch tells whether the
    first was long enough: ``half`` is by states of the chain's second quarter, the result by those of its second half.

    Args:
        net: the generator.
        draw: of ``net``.
        parameters: of ``net``.
        transitions: of the chain, a multiple of four. The pilot takes half as many, the first half of them by the metric at
            the start.
        generator: source of randomness.
    """
    x, start = draw.x.detach(), draw.z.detach()
    pilot = max(1, transitions // 4)
    metric = _whitening(net, [start])
    first, _ = _hmc(net, x, start, metric, transitions=pilot, generator=generator, keep=_REFERENCES)
    # twice, so that the pilot's metric is not that of the start either
    metric = _whitening(net, first)
    first, _ = _hmc(net, x, first[-1], metric, transitions=pilot, generator=generator, keep=_REFERENCES)
    metric = _whitening(net, first)
    half = transitions // 2
    early, _ = _hmc(net, x, start, metric, transitions=half, generator=generator, keep=_PAIRS)
    late, acceptance = _hmc(net, x, early[-1], metric, transitions=half, generator=generator, keep=_PAIRS)
    found = _pairs(net, start, late, parameters)
    return ChainTruth(found.gradient, found.spread, _pairs(net, start, early, parameters), acceptance)


def _pairs(net: LatentGenerator, start: Tensor, states: list[Tensor], parameters: list[torch.nn.Parameter]) -> Truth:
    mean, log_sigma = net.decode(start), net.log_sigma.detach()
    surrogates = [pair_surrogate(mean, net.decode(z), log_sigma).mean() for z in states]
    total = torch.stack(surrogates).mean()
    return Truth(flat_gradient(total, parameters), float(total.detach() - net.dim * log_sigma))


def _whitening(net: LatentGenerator, states: list[Tensor]) -> Tensor:
    """S with S S' the inverse of the mean precision over the states, ``(B, K, K)``."""
    variance = net.sigma.detach().square()
    total = torch.zeros(())
    for z in states:
        # (D, B, K): rows do not touch each other, so their sum has every row's own derivative
        slopes = torch.autograd.functional.jacobian(lambda at: net.decode(at).flatten(1).sum(0), z, vectorize=True)
        total = total + torch.einsum("dbi,dbj->bij", slopes, slopes) / variance / len(states)
    precision = total + torch.eye(states[0].shape[1], dtype=total.dtype)
    whitening: Tensor = torch.linalg.inv(torch.linalg.cholesky(precision)).mT
    return whitening


def _hmc(
    net: LatentGenerator,
    x: Tensor,
    z: Tensor,
    metric: Tensor,
    *,
    transitions: int,
    generator: torch.Generator,
    keep: int,
) -> tuple[list[Tensor], float]:
    """``keep`` states at most, evenly from the second half, the last one among them; and their mean acceptance."""
    low, high = (math.log(edge) for edge in _STEPS)
    second = transitions - transitions // 2
    wanted = {transitions - 1 - round(k * second / keep) for k in range(min(keep, second))}
    density, slope, _ = log_joint(net, x, z)
    states, accepted = [], 0.0
    for transition in range(transitions):
        start = torch.randn(z.shape, generator=generator, dtype=z.dtype)
        uniform = torch.rand(len(z), 1, generator=generator, dtype=z.dtype)
        step = torch.exp(low + (high - low) * uniform)
        there, momentum, pull = z, start, slope
        for _ in range(_LEAPFROG):
            momentum = momentum + 0.5 * step * _apply(metric.mT, pull)
            there = there + step * _apply(metric, momentum)
            there_density, pull, _ = log_joint(net, x, there)
            momentum = momentum + 0.5 * step * _apply(metric.mT, pull)
        change = there_density - density - 0.5 * (momentum.square().sum(1) - start.square().sum(1))
        probability = torch.nan_to_num(change, nan=-math.inf).clamp_max(0).exp()
        ok = torch.rand(len(z), generator=generator, dtype=z.dtype) < probability
        z, slope = torch.where(ok[:, None], there, z), torch.where(ok[:, None], pull, slope)
        density = torch.where(ok, there_density, density)
        if transition in wanted:
            states.append(z)
        if transition >= transitions - second:
            accepted += float(probability.mean()) / second
    return states, accepted


def _apply(matrices: Tensor, rows: Tensor) -> Tensor:
    product: Tensor = torch.einsum("bij,bj->bi", matrices, rows)
    return product
