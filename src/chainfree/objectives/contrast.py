"""What the games between an energy and a generator share: the energy's loss, and who owns which parameter."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from ..checks import energy_values, require_eager
from ..functional.importance import Weights, self_normalised
from ..typing import Energy

__all__ = ["Contrast", "contrast", "descent", "trainable"]


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
    r"""The energy's side of a game: low at data, high at samples.

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
        ContractError: the energy does not return one number per row.
    """
    if gradient_penalty:
        require_eager(energy, "a gradient penalty")
        # apart: differentiated once more, a joint pass would carry the samples' half of the graph along for nothing
        rows = x.detach().requires_grad_()  # a leaf of our own: the caller's rows are not asked for a gradient
        data, negative = energy_values(energy, rows), energy_values(energy, samples)
    else:
        rows = x
        data, negative = energy_values(energy, torch.cat([x, samples])).split([len(x), len(samples)])
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


def descent(energy: Energy, x: Tensor) -> tuple[Tensor, Tensor]:
    """The mean energy of a generator's samples, to be minimised over the samples alone, and all energies, detached.

    The energy's slope is taken at once, so its graph is gone before the entropy's is made: the two never lie in memory
    together, and no gradient of the energy's weights is in the way.
    """
    with torch.enable_grad():
        rows = x.detach().requires_grad_()
        values = energy_values(energy, rows)
        (slope,) = torch.autograd.grad(values.sum(), rows)
    values = values.detach()
    # the added term is zero, and carries the gradient
    along = ((x - rows.detach()) * slope).sum() / len(x)
    return values.mean() + along, values
