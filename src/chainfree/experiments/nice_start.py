"""Where the methods of :mod:`chainfree.experiments.nice_mnist` start from: the same for all of them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..energies import NICE
from ..energies.layers import Activation
from ..generators import ResidualGenerator

__all__ = ["started_generator", "started_nice"]


@torch.no_grad()
def started_nice(x: Tensor, *, couplings: int, width: int, depth: int, activation: Activation) -> NICE:
    """A NICE in whose base space the data are standard: every z has the base's mean and deviation on them.

    The last two couplings' biases take the means off, one part each; ``log_scale`` does the rest.

    Args:
        x: rows to start from, ``(N, dim)``.
        couplings: at least two.
        width, depth, activation: see :class:`chainfree.energies.NICE`.
    """
    nice = NICE(x.shape[1], couplings=couplings, width=width, depth=depth, activation=activation)
    first = (nice.dim + 1) // 2
    for index in (len(nice.shifts) - 2, len(nice.shifts) - 1):
        mean = nice.transform(x).mean(0)
        shift = nice.shifts[index]
        assert isinstance(shift, nn.Sequential)
        last = shift[-1]
        assert isinstance(last, nn.Linear)
        last.bias.sub_(mean[:first] if index % 2 == 1 else mean[first:])
    logistic = math.pi / math.sqrt(3)
    nice.log_scale.copy_((logistic / nice.transform(x).std(0).clamp_min(1e-6)).log())
    return nice


def started_generator(
    dim: int, *, width: int, depth: int, sigma: float, sigma_bounds: tuple[float, float]
) -> ResidualGenerator:
    r"""A generator that starts at a standard normal, which is nearly the law of :func:`started_nice`.

    So the first negatives are the energy's own, and the game starts on maximum likelihood's path; started near the data
    instead, as by principal components, it has nothing to tell the energy. As many latents as features, since a flow's
    law has no direction without variance: noise of one scale cannot follow what couplings do to the others.

    Args:
        dim: features of a row.
        width, depth: of the perceptron.
        sigma: below 1.
        sigma_bounds: see :class:`chainfree.generators.LatentGenerator`.
    """
    return ResidualGenerator(
        dim,
        dim,
        scale=math.sqrt(1 - sigma**2),
        train_linear=True,
        width=width,
        depth=depth,
        sigma=sigma,
        sigma_bounds=sigma_bounds,
    )
