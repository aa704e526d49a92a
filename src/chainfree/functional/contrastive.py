"""The contrast between data and negatives: chains' ends, a generator's samples.

Hinton, "Training Products of Experts by Minimizing Contrastive Divergence", Neural Computation 14, 2002.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from ..checks import energy_values, require_eager
from ..typing import Energy
from .importance import Weights, self_normalised

__all__ = ["Contrast", "PenaltyAt", "contrast", "descent", "require_penalty_at"]

PenaltyAt = Literal["data", "both"]
"""Where the energy's slope is penalised: at the data, or at data and negatives alike."""


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
    penalty_at: PenaltyAt = "data",
    penalty_every: int = 1,
    energy_square: float = 0.0,
    log_density: Tensor | None = None,
    clip: float | None = None,
) -> Contrast:
    r"""The energy's loss: low at data, high at samples.

    .. math::
        \tfrac1B\sum_i E(x_i) - \sum_n w_n E(\tilde x_n)
        + \tfrac\gamma2\, E_m\lVert\nabla_x E\rVert^2 + \alpha\,(E_p[E^2] + E_q[E^2])

    With m the data's distribution p, as in the paper, the penalty bounds nothing where samples are and data are not. With m
    the even mixture of p and the negatives' q the best of all energies solves
    :math:`\gamma\nabla\cdot(m\nabla E) = p - q`: bounded wherever m joins samples and data, and its slope at the samples
    leads to the data. Across a gap, where m is zero, neither penalty counts, and only the network's own smoothness bounds
    the energy. Every other row of either kind is then penalised, so that it costs the same.

    The penalty is a mean, which a part of the rows estimates, and the slope's own derivative is dear.

    Args:
        energy: ``(B, *event) -> (B,)``.
        x: data, ``(B, *event)``; not asked for a gradient.
        samples: negatives, ``(N, *event)``, detached.
        gradient_penalty: γ, in nats times squared units of the data.
        penalty_at: whether m is the data's distribution or the mixture; negatives count evenly in it, whatever their weights.
        penalty_every: of these rows, the slope is taken at every so many: an estimate of the same penalty.
        energy_square: α.
        log_density: that the negatives were drawn from, in nats, ``(N,)``: they are then weighted by
            :math:`w \propto e^{-E}/q`, self-normalised. ``None`` for even weights.
        clip: largest weight in units of the mean one, or ``None``.

    Raises:
        ContractError: the energy does not return one number per row.
    """
    if gradient_penalty:
        require_eager(energy, "a gradient penalty")
        data, negative, square = _penalised(energy, x, samples, penalty_at, penalty_every)
    else:
        square = None
        data, negative = energy_values(energy, torch.cat([x, samples])).split([len(x), len(samples)])
    weights = None
    if log_density is None:
        expected = negative.mean()
    else:
        weights = self_normalised(-negative.detach() - log_density, clip=clip)
        expected = (weights.values * negative).sum()
    loss = data.mean() - expected
    if square is not None:
        loss = loss + 0.5 * gradient_penalty * square
    if energy_square:
        loss = loss + energy_square * (data.square().mean() + negative.square().mean())
    return Contrast(loss, data, negative, weights)


def _penalised(energy: Energy, x: Tensor, samples: Tensor, at: PenaltyAt, every: int) -> tuple[Tensor, Tensor, Tensor]:
    """Energies of data and samples, and the mean squared slope.

    What is differentiated twice goes apart: a joint pass would carry the other rows' part of the graph along for nothing.
    Of samples of several kinds, one after the other, every kind has its part in what is picked at even distances.
    """
    step = every if at == "data" else 2 * every
    data, negative = _picked_first(x, step), _picked_first(samples, step if at == "both" else 1)
    a, b = -(-len(x) // step), -(-len(samples) // step) if at == "both" else 0
    rows = torch.cat([data[:a], negative[:b]]) if b else data[:a]
    rest = torch.cat([data[a:], negative[b:]])
    rows = rows.detach().requires_grad_()  # a leaf of our own: the caller's rows are not asked for a gradient
    first = energy_values(energy, rows)
    second = energy_values(energy, rest) if len(rest) else first[:0]
    (slope,) = torch.autograd.grad(first.sum(), rows, create_graph=True)
    squares = slope.flatten(1).square().sum(1)
    square = squares.mean() if at == "data" else 0.5 * (squares[:a].mean() + squares[a:].mean())
    left = len(x) - a
    data_values = _in_order(torch.cat([first[:a], second[:left]]), step)
    return data_values, _in_order(torch.cat([first[a:], second[left:]]), step if b else 1), square


def _picked_first(x: Tensor, step: int) -> Tensor:
    """Every ``step``-th row, then those one behind them, and so on."""
    return x if step == 1 else torch.cat([x[offset::step] for offset in range(step)])


def _in_order(values: Tensor, step: int) -> Tensor:
    """Values of rows that were picked so, in the rows' order."""
    if step == 1:
        return values
    index = torch.arange(len(values), device=values.device)
    offset, (least, longer) = index % step, divmod(len(values), step)
    return values[offset * least + offset.clamp_max(longer) + index // step]


def require_penalty_at(value: str) -> None:
    """Refuse what is no :data:`PenaltyAt`.

    Raises:
        ValueError: it is none.
    """
    if value not in get_args(PenaltyAt):
        raise ValueError(f"penalty_at must be {' or '.join(map(repr, get_args(PenaltyAt)))}, got {value!r}")


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
