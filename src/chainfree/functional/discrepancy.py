"""Energy discrepancy, per sample.

Schroeder, Ou, Lim, Li, Vollmer, Duncan, "Energy Discrepancies: A Score-Independent Loss for Energy-Based Models",
NeurIPS 2023, arXiv 2307.06431.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..checks import energy_values, require_floats, require_non_negative, require_positive_int
from ..perturbations.base import Perturbation, Perturbed
from ..typing import Energy

__all__ = ["Discrepancy", "energy_discrepancy", "stabilised_contrast"]


class Discrepancy(NamedTuple):
    """Per-sample energy discrepancy and what it was made of.

    Args:
        values: the loss of each row in nats, ``(B,)``.
        data_energy: energies of the rows, ``(B,)``.
        draw_energy: energies of the recovered draws, ``(M, B)``.
    """

    values: Tensor
    data_energy: Tensor
    draw_energy: Tensor


def stabilised_contrast(data_energy: Tensor, draw_energy: Tensor, w: float) -> Tensor:
    r"""The w-stabilised contrast :math:`\log(w/M + \frac1M \sum_j \exp(E(x) - E(x'_j)))`.

    Args:
        data_energy: :math:`E(x)`, ``(B,)``.
        draw_energy: :math:`E(x'_j)`, ``(M, B)``.
        w: weight of the datum itself among its draws; 0 is plain Monte Carlo, which is biased and explodes.

    Returns:
        ``(B,)``, in nats.

    >>> stabilised_contrast(torch.zeros(3), torch.zeros(4, 3), w=1.0)  # log((1 + 4) / 4)
    tensor([0.2231, 0.2231, 0.2231])
    """
    contrast = data_energy - draw_energy
    if w > 0:
        # one more row instead of logaddexp: where no draw has mass, the gradient is zero and not 0/0
        contrast = torch.cat([torch.full_like(contrast[:1], math.log(w)), contrast])
    return torch.logsumexp(contrast, dim=0) - math.log(len(draw_energy))


def energy_discrepancy(
    energy: Energy,
    x: Tensor,
    *,
    perturbation: Perturbation,
    draws: int,
    w: float = 1.0,
    chunk: int | None = None,
    generator: torch.Generator | None = None,
) -> Discrepancy:
    r"""Monte Carlo energy discrepancy of every row.

    .. math::
        y_i \sim q(y \mid x_i), \quad x'_{ij} \sim r(x' \mid y_i) \propto q(y_i \mid x'), \quad
        \mathrm{ED}_i = \log\Bigl(\tfrac wM + \tfrac1M \sum_{j=1}^M e^{E(x_i) - E(x'_{ij})}\Bigr)

    At ``w = 1`` this is ranking NCE of the datum among its draws, so the population minimiser is the data density for
    every ``M``; as ``M`` grows it tends to :math:`E(x) - E_q(y)`, the contrastive potential's definition.

    Args:
        energy: ``(B, *event) -> (B,)``.
        x: data, ``(B, *event)``.
        perturbation: how information is lost and drawn back.
        draws: M, at least 1. One evaluation of the energy each.
        w: weight of the datum among its draws, in [0, inf). Below 1 the energy becomes too steep, above 1 too flat.
        chunk: draws evaluated at a time. ``None`` evaluates all rows and draws in one forward pass, the fastest way. With
            a number, activations *and* draws of one chunk only are alive at any time, for one more forward pass in all.
            Layers that change in the forward pass (spectral and batch norm in training mode) see the chunks one after the
            other, twice.
        generator: source of randomness on the device of ``x``.

    Returns:
        :class:`Discrepancy`.

    Raises:
        ValueError: ``draws`` or ``chunk`` below 1, ``w`` negative.
        ContractError: the energy's shape is not ``(B,)``, or the rows are no floats.
    """
    require_positive_int("draws", draws)
    require_non_negative("w", w)
    require_floats(x, "energy discrepancy")
    perturbed = perturbation.perturb(x, generator=generator)
    if chunk is None or chunk >= draws:
        recovered = perturbation.recover(perturbed, draws, generator=generator)
        stacked = torch.cat([x.unsqueeze(0), recovered])
        values = energy_values(energy, stacked.flatten(0, 1)).view(draws + 1, len(x))
        data_energy, draw_energy = values[0], values[1:]
    else:
        require_positive_int("chunk", chunk)
        data_energy = energy_values(energy, x)
        sizes = [min(chunk, draws - start) for start in range(0, draws, chunk)]
        draw_energy = torch.cat([_chunk_energy(energy, perturbation, perturbed, size, generator) for size in sizes])
    return Discrepancy(stabilised_contrast(data_energy, draw_energy, w), data_energy, draw_energy)


def _chunk_energy(
    energy: Energy,
    perturbation: Perturbation,
    perturbed: Perturbed,
    draws: int,
    generator: torch.Generator | None,
) -> Tensor:
    """Energies ``(draws, B)`` whose activations and draws are made again in the backward pass.

    The draws are made again from the generator's state rather than kept: at M = 512 on images they would outweigh the
    network. The caller's generator itself moves on only once.
    """
    source = generator if generator is not None else _default_generator(perturbed.y.device)
    before = source.get_state()
    perturbation.recover(perturbed, draws, generator=source)
    replay = torch.Generator(device=source.device)

    def evaluate(y: Tensor) -> Tensor:
        replay.set_state(before)
        again = Perturbed(y, perturbed.scale)
        recovered = perturbation.recover(again, draws, generator=replay)
        return energy_values(energy, recovered.flatten(0, 1)).view(draws, len(y))

    if not torch.is_grad_enabled():
        return evaluate(perturbed.y)
    values: Tensor = checkpoint(evaluate, perturbed.y, use_reentrant=False)
    return values


def _default_generator(device: torch.device) -> torch.Generator:
    if device.type == "cpu":
        return torch.default_generator
    index = device.index if device.index is not None else torch.get_device_module(device).current_device()
    generator: torch.Generator = torch.get_device_module(device).default_generators[index]
    return generator
