"""Energy discrepancy where nothing is left of the datum: contrasts with draws of a reference density, per sample.

Schroeder et al., NeurIPS 2023, arXiv 2307.06431, for large t; Ma and Collins, "Noise Contrastive Estimation and Negative
Sampling for Conditional Models", EMNLP 2018, arXiv 1809.01812, for the ranking among draws of any density; Hoeffding,
"A Class of Statistics with Asymptotically Normal Distribution", Annals of Mathematical Statistics 19(3), 1948, for means over
all pairs.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ..checks import energy_values, log_prob_values, require_floats, require_non_negative, require_positive_int
from ..perturbations.base import Perturbation
from ..typing import Density, Energy
from .discrepancy import stabilised_contrast

__all__ = ["ReferencedDiscrepancy", "referenced_discrepancy", "shared_contrast"]

_ROWS_AT_ONCE = 512  # that share draws in groups: memory for a contrast grows with its square


class ReferencedDiscrepancy(NamedTuple):
    """Per-sample energy discrepancy at the perturbation's scales and at the largest of all.

    Args:
        values: the loss of each row in nats, ``(B,)``.
        data_energy: energies of the rows, ``(B,)``.
        draw_energy: energies of the draws of the reference, then of the perturbation, ``(D,)``.
    """

    values: Tensor
    data_energy: Tensor
    draw_energy: Tensor


def shared_contrast(data: Tensor, draws: Tensor, w: float, *, among: int | None = None) -> Tensor:
    r""":math:`\log(w/M + \frac1M \sum_{j \in G} \exp(g(x) - g(x'_j)))`, the mean over groups G of M draws, of every row.

    Every row meets every group, for N energies of draws in all.

    Args:
        data: :math:`g(x) = E(x) + \log r(x)`, r the density of the draws, ``(B,)``.
        draws: :math:`g(x'_j)`, ``(N,)``.
        w: weight of the datum among the draws of a group.
        among: M, of which N is a multiple; ``None``: one group of all.

    Returns:
        ``(B,)``, in nats.

    Raises:
        ValueError: N is no multiple of ``among``.

    >>> shared_contrast(torch.zeros(2), torch.zeros(4), w=1.0)  # log((1 + 4) / 4)
    tensor([0.2231, 0.2231])
    >>> shared_contrast(torch.zeros(2), torch.zeros(4), w=1.0, among=1)  # log(1 + 1)
    tensor([0.6931, 0.6931])
    """
    size = len(draws) if among is None else among
    if size < 1 or len(draws) % size:
        raise ValueError(f"{len(draws)} draws are not in groups of {size}")
    if w > 0:  # where no draw has mass, the sum's gradient would be 0/0: clamped it is zero, and w is all there is
        draws = draws.clamp_max(torch.finfo(draws.dtype).max / 4)
    values = data.unsqueeze(1) + torch.logsumexp(-draws.view(-1, size), dim=1)
    if w > 0:  # log(w + e^v)
        values = functional.softplus(values - math.log(w), threshold=40.0) + math.log(w)
    return values.mean(1) - math.log(size)


def referenced_discrepancy(
    energy: Energy,
    x: Tensor,
    *,
    perturbation: Perturbation,
    reference: Density,
    share: float = 0.5,
    draws: int,
    among: int | None = None,
    w: float = 1.0,
    relative: Energy | None = None,
    generator: torch.Generator | None = None,
) -> ReferencedDiscrepancy:
    r"""Energy discrepancy of the first rows with a perturbation that forgets them, and of the others with the given one.

    What is perturbed beyond recognition says nothing of the datum, and the discrepancy is then the negative log-likelihood:
    :math:`E(x) + \log\int e^{-E}`. Gaussian noise gets there as its variance grows, and its draws miss the data ever more
    often. Draws of a reference r near the data with weights :math:`e^{-E}/r` do the same without that loss:

    .. math:: \log\Bigl(\tfrac wM + \tfrac1M\sum_{j=1}^M \frac{e^{E(x)}\,r(x)}{e^{E(x'_j)}\,r(x'_j)}\Bigr), \quad x'_j \sim r

    At ``w = 1`` the population minimiser is the data's density at every M. It tends to :math:`-\log p_E(x) + \log r(x)` as M
    grows, the likelihood, and at M = 1 it is the logistic loss of telling which of a pair is the datum. As nothing about the
    draws depends on the datum, up to 512 rows share theirs, and each is contrasted with all groups of M of them: a mean
    over all pairs at M = 1, for the price of as many energies. Small groups slow the gradient where the density is high more
    than where it is low, which brings their rates nearer to each other; large ones are the likelihood, which makes most of
    few rows.

    The mass of far modes and of what lies between them, which small noise does not compare, is compared here; small noise
    sees detail for which a reference would need too many draws.

    Args:
        energy: ``(B, *event) -> (B,)``.
        x: data, ``(B, *event)``; in no order, for the first ``share`` of them are the ones with the reference.
        perturbation: of the other rows.
        reference: r, as wide as the data; no gradient reaches it.
        share: of the rows, above 0 and at most 1; at least one row.
        draws: a row, of the reference and of the perturbation, at least 1; of the reference rounded up to whole groups.
        among: M, draws of the reference that a row is contrasted with at a time, at most as many as there are; ``None``: all.
        w: weight of the datum among its draws.
        relative: :math:`E(x) + \log r(x)`, where a function says it without either: of a tilt of the reference its network.
            The energy is not asked then, and the density of the reference of the other rows and their draws alone.
        generator: source of randomness on the device of ``x``.

    Returns:
        :class:`ReferencedDiscrepancy`; with ``relative``, its energies are relative to the reference's.

    Raises:
        ValueError: ``draws`` or ``among`` below 1, more among than draws, ``w`` negative, ``share`` out of its range.
        ContractError: the energy's shape is not ``(B,)``, or the rows are no floats.
    """
    require_positive_int("draws", draws)
    if among is not None:
        require_positive_int("among", among)
    require_non_negative("w", w)
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1, got {share!r}")
    require_floats(x, "energy discrepancy")
    count = max(1, round(share * len(x)))
    far, near = x[:count], x[count:]
    blocks = 1 if among is None else -(-count // _ROWS_AT_ONCE)
    each = -(-draws * count // blocks)  # draws of a block
    if among is not None:
        if among > draws * count:
            raise ValueError(
                f"among must be at most the draws, {draws} for each of {count} rows with the reference, got {among}"
            )
        each = -(-each // among) * among
    with torch.no_grad():
        drawn = reference.sample(each * blocks, generator=generator).to(x)
        rows = [far, drawn]
        if len(near):
            recovered = perturbation.recover(
                perturbation.perturb(near, generator=generator), draws, generator=generator
            )
            rows += [near, recovered.flatten(0, 1)]
        together, split = torch.cat(rows), count + len(drawn)
        # the first part's contrast is of the energy and the reference's density together, the other's of the energy alone
        log_reference = log_prob_values(reference, together[:split] if relative is None else together[split:])
    values = energy_values(energy if relative is None else relative, together)
    first, second = values[:split], values[split:]
    contrasted, alone = (first + log_reference, second) if relative is None else (first, second - log_reference)
    of_rows = contrasted[:count].tensor_split(blocks)
    of_draws = contrasted[count:].split(each)
    parts = [shared_contrast(g, others, w, among=among) for g, others in zip(of_rows, of_draws, strict=True)]
    if len(near):
        parts.append(stabilised_contrast(alone[: len(near)], alone[len(near) :].view(draws, len(near)), w))
    data_energy = torch.cat([first[:count], second[: len(near)]])
    return ReferencedDiscrepancy(torch.cat(parts), data_energy, torch.cat([first[count:], second[len(near) :]]))
