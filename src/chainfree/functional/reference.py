"""Energy discrepancy where nothing is left of the datum: contrasts with draws of a reference density, per sample.

Schroeder et al., NeurIPS 2023, arXiv 2307.06431, for large t; Ma and Collins, "Noise Contrastive Estimation and Negative
Sampling for Conditional Models", EMNLP 2018, arXiv 1809.01812, for the ranking among draws of any density.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..checks import energy_values, log_prob_values, require_floats, require_non_negative, require_positive_int
from ..perturbations.base import Perturbation
from ..typing import Density, Energy
from .discrepancy import stabilised_contrast

__all__ = ["ReferencedDiscrepancy", "referenced_discrepancy", "shared_contrast"]


class ReferencedDiscrepancy(NamedTuple):
    """Per-sample energy discrepancy at the perturbation's scales and at the largest of all.

    Args:
        values: the loss of each row in nats, ``(B,)``.
        data_energy: energies of the rows, ``(B,)``.
        draw_energy: energies of the draws of the reference, then of the perturbation, ``(M·B,)``.
    """

    values: Tensor
    data_energy: Tensor
    draw_energy: Tensor


def shared_contrast(data: Tensor, draws: Tensor, w: float) -> Tensor:
    r""":math:`\log(w/N + \frac1N \sum_j \exp(g(x) - g(x'_j)))` of every row with the same N draws.

    Args:
        data: :math:`g(x) = E(x) + \log r(x)`, r the density of the draws, ``(B,)``.
        draws: :math:`g(x'_j)`, ``(N,)``.
        w: weight of the datum among the draws.

    Returns:
        ``(B,)``, in nats.

    >>> shared_contrast(torch.zeros(2), torch.zeros(4), w=1.0)  # log((1 + 4) / 4)
    tensor([0.2231, 0.2231])
    """
    # where no draw has mass, the sum's gradient would be 0/0: clamped it is zero
    values = data + torch.logsumexp(-draws.clamp_max(torch.finfo(draws.dtype).max / 4), dim=0)
    if w > 0:
        values = torch.logaddexp(values, values.new_full((), math.log(w)))
    return values - math.log(len(draws))


def referenced_discrepancy(
    energy: Energy,
    x: Tensor,
    *,
    perturbation: Perturbation,
    reference: Density,
    share: float = 0.5,
    draws: int,
    w: float = 1.0,
    generator: torch.Generator | None = None,
) -> ReferencedDiscrepancy:
    r"""Energy discrepancy of the first rows with a perturbation that forgets them, and of the others with the given one.

    What is perturbed beyond recognition says nothing of the datum, and the discrepancy is then the negative log-likelihood:
    :math:`E(x) + \log\int e^{-E}`. Gaussian noise gets there as its variance grows, and its draws miss the data ever more
    often. Draws of a reference r near the data with weights :math:`e^{-E}/r` do the same without that loss:

    .. math:: \log\Bigl(\tfrac wN + \tfrac1N\sum_{j=1}^N \frac{e^{E(x)}\,r(x)}{e^{E(x'_j)}\,r(x'_j)}\Bigr), \quad x'_j \sim r

    It tends to :math:`-\log p_E(x) + \log r(x)` as N grows. As nothing about the draws depends on the datum, all rows of
    this kind share theirs: N is M times their number, for the price of M. At ``w = 1`` the population minimiser is the
    data's density at every N. The mass of far modes and of what lies between them, which small noise does not compare, is
    compared here; small noise sees detail for which a reference would need too many draws.

    Args:
        energy: ``(B, *event) -> (B,)``.
        x: data, ``(B, *event)``; in no order, for the first ``share`` of them are the ones with the reference.
        perturbation: of the other rows.
        reference: r, as wide as the data; no gradient reaches it.
        share: of the rows, above 0 and at most 1; at least one row.
        draws: M, at least 1.
        w: weight of the datum among its draws.
        generator: source of randomness on the device of ``x``.

    Returns:
        :class:`ReferencedDiscrepancy`.

    Raises:
        ValueError: ``draws`` below 1, ``w`` negative, ``share`` out of its range.
        ContractError: the energy's shape is not ``(B,)``, or the rows are no floats.
    """
    require_positive_int("draws", draws)
    require_non_negative("w", w)
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1, got {share!r}")
    require_floats(x, "energy discrepancy")
    count = max(1, round(share * len(x)))
    far, near = x[:count], x[count:]
    with torch.no_grad():
        drawn = reference.sample(draws * count, generator=generator).to(x)
        log_reference = log_prob_values(reference, torch.cat([far, drawn]))
    recovered = perturbation.recover(perturbation.perturb(near, generator=generator), draws, generator=generator)
    values = energy_values(energy, torch.cat([x, drawn, recovered.flatten(0, 1)]))
    data, from_reference, around = values.split([len(x), len(drawn), draws * len(near)])
    parts = [shared_contrast(data[:count] + log_reference[:count], from_reference + log_reference[count:], w)]
    if len(near):
        parts.append(stabilised_contrast(data[count:], around.view(draws, len(near)), w))
    return ReferencedDiscrepancy(torch.cat(parts), data, values[len(x) :])
