"""What the games between an energy and a generator share: the energy's loss, and who owns which parameter."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from ..checks import energy_values
from ..functional.importance import Weights, self_normalised
from ..typing import Energy

__all__ = ["Contrast", "contrast", "trainable"]


class Contrast(NamedTuple):
    """The energy's loss and what it was made of.

    Args:
        loss: scalar with its graph.
        data: energies of the data, ``(B,)``.
        samples: energies of the negatives, ``(N,)``.
        weights: of the negatives, ``None`` where they are even.
    """

    loss: Tensor
    data: Tensor
    samples: Tensor
    weights: Weights | None


def contrast(
    energy: Energy,
    x: Tensor,
    samples: Tensor,
    *,
    gradient_penalty: float = 0.0,
    energy_square: float = 0.0,
    log_density: Tensor | None = None,
    clip: float | None = None,
) -> Contrast:
    r"""The energy's side of a game: low at data, high at samples, from one forward pass over both.

    .. math::
        \tfrac1B\sum_i E(x_i) - \sum_n w_n E(\tilde x_n)
        + \tfrac\gamma2\, E_p\lVert\nabla_x E\rVert^2 + \alpha\,(E_p[E^2] + E_q[E^2])

    Args:
        energy: ``(B, *event) -> (B,)``.
        x: data, ``(B, *event)``; not asked for a gradient.
        samples: negatives, ``(N, *event)``, detached.
        gradient_penalty: γ, in nats times squared units of the data.
        energy_square: α.
        log_density: that the negatives were drawn from, in nats, ``(N,)``: they are then weighted by
            :math:`w \propto e^{-E}/q`, self-normalised. ``None`` for even weights.
        clip: largest weight in units of the mean one, or ``None``.

    Raises:
        ContractError: the energy's shape is not ``(B + N,)``.
    """
    # a leaf of our own: the caller's rows are not asked for a gradient
    rows = x.detach().requires_grad_() if gradient_penalty else x
    values = energy_values(energy, torch.cat([rows, samples]))
    data, negative = values[: len(x)], values[len(x) :]
    weights = None
    if log_density is None:
        expected = negative.mean()
    else:
        weights = self_normalised(-negative.detach() - log_density, clip=clip)
        expected = (weights.values * negative).sum()
    loss = data.mean() - expected
    if gradient_penalty:
        (slope,) = torch.autograd.grad(data.sum(), rows, create_graph=True)
        loss = loss + 0.5 * gradient_penalty * slope.flatten(1).square().sum(1).mean()
    if energy_square:
        loss = loss + energy_square * (data.square().mean() + negative.square().mean())
    return Contrast(loss, data, negative, weights)


def trainable(module: nn.Module) -> list[Parameter]:
    """The parameters that have gradients switched on."""
    return [p for p in module.parameters() if p.requires_grad]
