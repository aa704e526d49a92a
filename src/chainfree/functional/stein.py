"""The learned Stein discrepancy, per sample.

Grathwohl, Wang, Jacobsen, Duvenaud, Zemel, "Learning the Stein Discrepancy for Training and Evaluating Energy-Based Models
without Sampling", ICML 2020, arXiv 2002.05616.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..checks import ContractError, require_positive_int
from ..typing import Energy
from .score_matching import rows_and_gradient

__all__ = ["SteinTerms", "field_and_divergence", "stein_terms"]


class SteinTerms(NamedTuple):
    r"""What the Stein operator is made of, per sample: :math:`\mathcal A_E f = \nabla\cdot f - f\cdot\nabla E`.

    Args:
        drift: :math:`-f(x)\cdot\nabla E(x)`, ``(B,)``.
        divergence: :math:`\nabla\cdot f(x)` by random probes, ``(B,)``.
        squared_norm: :math:`|f(x)|^2`, ``(B,)``.
        data_energy: energies of the rows, ``(B,)``.
    """

    drift: Tensor
    divergence: Tensor
    squared_norm: Tensor
    data_energy: Tensor


def stein_terms(
    energy: Energy,
    critic: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    probes: int = 1,
    generator: torch.Generator | None = None,
) -> SteinTerms:
    r"""The terms of the Stein operator under a critic f, whose mean is zero where the energy is that of the data.

    Of all critics the one that maximises :math:`E[\mathcal A_E f] - \lambda E|f|^2` over the data's density p is
    :math:`-(\nabla\log p + \nabla E)/2\lambda`, with the maximum :math:`E|\nabla\log p + \nabla E|^2/4\lambda`: the Fisher
    divergence of exact score matching, without the energy's second derivatives.

    Args:
        energy: ``(B, *event) -> (B,)``.
        critic: f, ``(B, *event) -> (B, *event)``.
        x: data, ``(B, *event)``.
        probes: random signs for the divergence, one backward pass through the critic each.
        generator: source of randomness on the device of ``x``.

    Raises:
        ValueError: ``probes`` below 1.
        ContractError: the energy or the critic has another shape, or there is no gradient in the rows.
    """
    keep = torch.is_grad_enabled()
    _, values, gradient = rows_and_gradient(energy, x, "the Stein discrepancy", create_graph=keep)
    field, divergence = field_and_divergence(critic, x, probes=probes, generator=generator)
    drift = -(field * gradient).flatten(1).sum(1)
    terms = SteinTerms(drift, divergence, field.flatten(1).square().sum(1), values)
    return terms if keep else SteinTerms(*(term.detach() for term in terms))


def field_and_divergence(
    critic: Callable[[Tensor], Tensor], x: Tensor, *, probes: int, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """The critic's vectors, ``(B, *event)``, and an estimate of their divergence, ``(B,)``, as in :func:`stein_terms`."""
    require_positive_int("probes", probes)
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        rows = x.detach().requires_grad_()  # a new tensor: the caller's stays as it is
        field = critic(rows)
        if field.shape != x.shape:
            raise ContractError(
                f"the critic returned shape {tuple(field.shape)} for rows of shape {tuple(x.shape)}; it is a vector field"
            )
        divergence = torch.zeros(len(x), dtype=field.dtype, device=field.device)
        for _ in range(probes if field.requires_grad else 0):
            v = torch.empty_like(x).bernoulli_(0.5, generator=generator).mul_(2).sub_(1)
            (slope,) = torch.autograd.grad(
                (field * v).sum(), rows, create_graph=keep, retain_graph=True, materialize_grads=True
            )
            divergence = divergence + (slope * v).flatten(1).sum(1) / probes
    return field, divergence
