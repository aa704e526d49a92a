"""Denoising score matching, per sample.

Vincent, "A Connection Between Score Matching and Denoising Autoencoders", Neural Computation 23, 2011. Many scales: Li, Chen,
Sommer, "Learning Energy-Based Models in High-Dimensional Spaces with Multi-Scale Denoising Score Matching", 2019, arXiv
1910.07762.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..checks import require_floats
from ..typing import Energy
from .score_matching import rows_and_gradient

__all__ = ["DenoisingTerms", "denoising_score_matching"]


class DenoisingTerms(NamedTuple):
    """Denoising score matching and what it was made of.

    Args:
        values: the loss of each row, ``(B,)``.
        noised_energy: energies of the noised rows, ``(B,)``, or ``(2B,)`` with antithetic noise.
    """

    values: Tensor
    noised_energy: Tensor


def denoising_score_matching(
    energy: Energy,
    x: Tensor,
    scale: Tensor,
    *,
    target_scale: float | None = None,
    antithetic: bool = True,
    generator: torch.Generator | None = None,
) -> DenoisingTerms:
    r"""Denoising score matching of every row.

    .. math::
        \mathrm{DSM}(x) = \tfrac12 \bigl\lVert \sigma \nabla E(x + \sigma\varepsilon) - \varepsilon \bigr\rVert^2,
        \quad \varepsilon \sim N(0, I)

    One scale for all rows makes the density of *noised* data the minimiser, however small it is; scales that differ among
    rows make none of them. Over :math:`\sigma^2` and but for the constant :math:`D/2\sigma^2` it tends to score matching
    as the scale goes to zero, and its variance explodes on the way: of :math:`-\varepsilon^\top\nabla E(x +
    \sigma\varepsilon)/\sigma` the part :math:`-\varepsilon^\top\nabla E(x)/\sigma` has mean zero and a variance that
    grows without bound. An antithetic pair of draws cancels just that part.

    Args:
        energy: ``(B, *event) -> (B,)``, with a gradient in the rows whose own gradient is not zero (not ReLU).
        x: data, ``(B, *event)``.
        scale: σ, broadcastable to ``x``: one number, one a feature, or one a row.
        target_scale: σ₀ of Li et al.,
            :math:`\tfrac12 \lVert \tfrac{\sigma_0^2}\sigma\nabla E(x + \sigma\varepsilon) - \varepsilon \rVert^2`:
            a step of :math:`\sigma_0^2` down the energy's gradient then leads to the denoised
            row, whatever the scale was. ``None`` for σ itself.
        antithetic: average over :math:`\pm\varepsilon`, two evaluations a row.
        generator: source of randomness on the device of ``x``.

    Returns:
        :class:`DenoisingTerms`, with a graph to the energy's parameters unless gradients are switched off.

    Raises:
        ContractError: the energy's shape is not ``(B,)``, it has no gradient in the rows, it is compiled by
            ``torch.compile``, or the rows are no floats.
    """
    require_floats(x, "denoising score matching")
    keep = torch.is_grad_enabled()
    noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    noises = torch.stack([noise, -noise]) if antithetic else noise.unsqueeze(0)
    noised = (x + scale * noises).flatten(0, 1)
    _, values, gradient = rows_and_gradient(energy, noised, "denoising score matching", create_graph=keep)
    gradient = gradient.view_as(noises)
    residual = (scale if target_scale is None else target_scale**2 / scale) * gradient - noises
    losses = 0.5 * residual.flatten(2).square().sum(2).mean(0)
    return DenoisingTerms(losses, values) if keep else DenoisingTerms(losses.detach(), values.detach())
