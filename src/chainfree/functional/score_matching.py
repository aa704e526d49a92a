"""Score matching, exact and sliced, per sample.

Hyvarinen, "Estimation of Non-Normalized Statistical Models by Score Matching", JMLR 6, 2005. Song, Garg, Shi, Ermon, "Sliced
Score Matching: A Scalable Approach to Density and Score Estimation", UAI 2019, arXiv 1905.07088.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..checks import ContractError, energy_values, require_eager, require_positive_int
from ..typing import Energy

__all__ = [
    "ScoreMatchingTerms",
    "exact_score_matching",
    "exact_terms",
    "rows_and_gradient",
    "sliced_score_matching",
    "sliced_terms",
]


class ScoreMatchingTerms(NamedTuple):
    r"""What score matching is made of, per sample; its value is half the first less the second.

    Args:
        squared_gradient: :math:`|\nabla E|^2`, or :math:`(v^\top \nabla E)^2` averaged over projections, ``(B,)``.
        laplacian: :math:`\Delta E`, or :math:`v^\top \nabla^2 E\, v` averaged over projections, ``(B,)``.
        data_energy: energies of the rows, ``(B,)``.
    """

    squared_gradient: Tensor
    laplacian: Tensor
    data_energy: Tensor

    @property
    def values(self) -> Tensor:
        """The loss of each row, ``(B,)``."""
        return 0.5 * self.squared_gradient - self.laplacian


def exact_score_matching(energy: Energy, x: Tensor) -> Tensor:
    r"""Hyvarinen's score matching of every row.

    .. math:: \mathrm{SM}(x) = \tfrac12 |\nabla E(x)|^2 - \Delta E(x)

    Its mean over the data is half the squared distance of the model's score to the data's, up to a constant of the data. The
    Laplacian takes one Hessian-vector product a feature. Nothing is divided by the number of features.

    Args:
        energy: ``(B, *event) -> (B,)``, twice differentiable: the Laplacian of a ReLU network is zero almost everywhere, and
            the loss then only flattens it.
        x: data, ``(B, *event)``. Without gradient tracking of its own it stays so.

    Returns:
        ``(B,)``, with a graph to the energy's parameters unless gradients are switched off.

    Raises:
        ContractError: the energy's shape is not ``(B,)``, it has no gradient in the rows, it is compiled by
            ``torch.compile``, or the rows are no floats.

    >>> exact_score_matching(lambda x: 0.5 * x.square().sum(1), torch.tensor([[0.0, 0.0], [1.0, 1.0]])).detach()
    tensor([-2., -1.])
    """
    return exact_terms(energy, x).values


def sliced_score_matching(
    energy: Energy,
    x: Tensor,
    *,
    projections: int = 1,
    variance_reduction: bool = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Sliced score matching of every row: the same in expectation, for one Hessian-vector product a projection.

    .. math::
        \mathrm{SSM}(x) = \frac1M \sum_{m=1}^M \tfrac12 (v_m^\top \nabla E(x))^2 - v_m^\top \nabla^2 E(x)\, v_m, \quad
        v_m \in \{-1, 1\}^D \text{ uniform}

    Args:
        energy: as in :func:`exact_score_matching`.
        x: data, ``(B, *event)``. Without gradient tracking of its own it stays so.
        projections: M, at least 1; every row has its own.
        variance_reduction: replace the first term by its expectation :math:`\tfrac12 |\nabla E|^2`, which costs nothing
            (SSM-VR of the paper). A diagonal Hessian then leaves no noise at all.
        generator: source of randomness on the device of ``x``.

    Returns:
        ``(B,)``, with a graph to the energy's parameters unless gradients are switched off.

    Raises:
        ValueError: ``projections`` below 1.
        ContractError: as in :func:`exact_score_matching`.
    """
    return sliced_terms(
        energy, x, projections=projections, variance_reduction=variance_reduction, generator=generator
    ).values


def exact_terms(energy: Energy, x: Tensor) -> ScoreMatchingTerms:
    """The terms of :func:`exact_score_matching`."""
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        rows, values, gradient = rows_and_gradient(energy, x)
        flat = gradient.reshape(len(x), math.prod(x.shape[1:]))
        laplacian = torch.zeros_like(values)
        for feature in range(flat.shape[1]):  # D backward passes through one graph
            row_of_hessian = _derivative(flat[:, feature].sum(), rows, create_graph=keep)
            laplacian = laplacian + row_of_hessian.reshape_as(flat)[:, feature]
    return _terms(flat.square().sum(dim=1), laplacian, values, keep)


def sliced_terms(
    energy: Energy,
    x: Tensor,
    *,
    projections: int,
    variance_reduction: bool,
    generator: torch.Generator | None,
) -> ScoreMatchingTerms:
    """The terms of :func:`sliced_score_matching`."""
    require_positive_int("projections", projections)
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        rows, values, gradient = rows_and_gradient(energy, x)
        flat = gradient.reshape(len(x), math.prod(x.shape[1:]))
        squared, curvature = torch.zeros_like(values), torch.zeros_like(values)
        for _ in range(projections):  # M backward passes through one graph
            # signs rather than normal draws: of all v with E[v v^T] = 1 they have the least variance in v^T H v
            v = torch.empty_like(flat).bernoulli_(0.5, generator=generator).mul_(2).sub_(1)
            along = (flat * v).sum(dim=1)
            curvature = curvature + (_derivative(along.sum(), rows, create_graph=keep).reshape_as(v) * v).sum(dim=1)
            squared = squared + along.square()
        squared = flat.square().sum(dim=1) if variance_reduction else squared / projections
    return _terms(squared, curvature / projections, values, keep)


@torch.enable_grad()
def rows_and_gradient(
    energy: Energy, x: Tensor, what: str = "score matching", *, create_graph: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows to differentiate by, their energies and the energy's gradient, with the graph of all unless told otherwise.

    Raises:
        ContractError: as :func:`exact_score_matching`, with ``what`` in the message.
    """
    if not x.is_floating_point():
        raise ContractError(f"{what} takes gradients in the rows, which are {x.dtype}; convert them to floats")
    require_eager(energy, what)
    rows = x if x.requires_grad else x.detach().requires_grad_()  # a new tensor: the caller's stays as it is
    values = energy_values(energy, rows)
    gradient = None
    if values.requires_grad:
        (gradient,) = torch.autograd.grad(values.sum(), rows, create_graph=create_graph, allow_unused=True)
    if gradient is None:
        raise ContractError("the energy has no gradient in its rows; compute it from x, without detach or no_grad")
    return rows, values, gradient


def _derivative(value: Tensor, rows: Tensor, *, create_graph: bool) -> Tensor:
    """Gradient in the rows, zero where the value does not depend on them (the slope of an affine energy)."""
    if not value.requires_grad:
        return torch.zeros_like(rows)
    (gradient,) = torch.autograd.grad(value, rows, create_graph=create_graph, retain_graph=True, materialize_grads=True)
    return gradient


def _terms(squared: Tensor, laplacian: Tensor, values: Tensor, keep: bool) -> ScoreMatchingTerms:
    if keep:
        return ScoreMatchingTerms(squared, laplacian, values)
    return ScoreMatchingTerms(squared.detach(), laplacian.detach(), values.detach())
