"""How unlike the data rows look to a joint energy.

The largest class probability: Hendrycks and Gimpel, ICLR 2017, arXiv 1610.02136. The energy of rows: Liu, Wang, Owens, Li,
NeurIPS 2020, arXiv 2010.03759. The gradient's norm: Grathwohl, Wang, Jacobsen, Duvenaud, Norouzi, Swersky, ICLR 2020, arXiv
1912.03263.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..checks import require_floats, require_positive_int
from ..energies.classifier import JointEnergy

__all__ = ["OutlierScores", "max_probability_score", "outlier_scores"]


class OutlierScores(NamedTuple):
    r"""Numbers that are high for rows unlike the data, for :func:`chainfree.evaluation.anomaly_scores`; each ``(N,)``.

    Args:
        max_probability: :math:`\log(1 - \max_y p(y \mid x))` in nats: in the order of :math:`-\max_y p(y \mid x)`, but rows
            that a network is very sure of are still told apart, where the probability itself rounds to one.
        energy: :math:`E(x)` in nats.
        gradient_norm: :math:`\lVert\nabla_x E(x)\rVert` in nats a unit of the data: high where the density falls off, though
            rows of low density may well lie on a plain.
    """

    max_probability: Tensor
    energy: Tensor
    gradient_norm: Tensor


def max_probability_score(logits: Tensor) -> Tensor:
    r""":math:`\log(1 - \max_y p(y \mid x))` in nats, ``(N, K) -> (N,)``.

    In double precision, from the other classes: one minus a probability near one would round to zero.

    Raises:
        ValueError: no table of at least two logits a row.
    """
    if logits.dim() != 2 or logits.shape[1] < 2:
        raise ValueError(f"logits must be (N, K) with K at least 2, got shape {tuple(logits.shape)}")
    known = logits.double()
    others = known.scatter(1, known.argmax(1, keepdim=True), -torch.inf)
    return torch.logsumexp(others, dim=1) - torch.logsumexp(known, dim=1)


def outlier_scores(energy: JointEnergy, x: Tensor, *, batch: int = 1000) -> OutlierScores:
    """All scores of the rows, in one forward and one backward pass; no parameter gets a gradient.

    A classifier may well be sure of the class of rows that lie far from all classes: the energy is the score of a density.

    Args:
        energy: in evaluation mode, as :meth:`chainfree.Engine.averaged_energy` returns it.
        x: floats ``(N, *event)``, N at least 1.
        batch: rows at a time.

    Raises:
        ContractError: rows that are no floats, or logits of another shape.
        ValueError: no rows, or ``batch`` below 1.
    """
    require_positive_int("batch", batch)
    require_floats(x, "the gradient's norm")
    if not len(x):
        raise ValueError("there are no rows to score; give at least one")
    parts = [_of_part(energy, part) for part in x.detach().split(batch)]
    return OutlierScores(*(torch.cat(scores) for scores in zip(*parts, strict=True)))


def _of_part(energy: JointEnergy, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    rows = x.clone().requires_grad_()  # a new tensor: the caller's stays as it is
    with torch.enable_grad():
        logits = energy.logits(rows)
        values = -torch.logsumexp(logits, dim=1)
        (gradient,) = torch.autograd.grad(values.sum(), rows)
    return max_probability_score(logits.detach()), values.detach(), gradient.flatten(1).norm(dim=1)
