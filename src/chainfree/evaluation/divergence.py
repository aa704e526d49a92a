"""Distances between a normalised energy and a known density."""

from __future__ import annotations

import torch
from torch import Tensor

from ..blocks import rows_at_a_time
from ..checks import energy_values, log_prob_values
from ..typing import Density, Energy

__all__ = ["held_out_nll", "log_density_mse", "nll_gap"]


def _log_density(energy: Energy, log_z: float, x: Tensor) -> Tensor:
    return -torch.cat([energy_values(energy, part).double() for part in x.split(rows_at_a_time(x))]) - log_z


@torch.no_grad()
def held_out_nll(energy: Energy, log_z: float, x: Tensor) -> float:
    """Mean negative log-likelihood of held-out rows ``(N, *event)`` in nats."""
    return float(-_log_density(energy, log_z, x).mean())


@torch.no_grad()
def nll_gap(energy: Energy, log_z: float, density: Density, x: Tensor) -> float:
    """How many nats the model's held-out NLL lies above the truth's, an estimate of KL(truth || model).

    Both are averaged over the same rows, whose sampling noise so cancels.

    Args:
        energy: ``(B, *event) -> (B,)``.
        log_z: its log partition function.
        density: the truth.
        x: rows drawn from the truth and not used in training, ``(N, *event)``.
    """
    return float((log_prob_values(density, x).double() - _log_density(energy, log_z, x)).mean())


@torch.no_grad()
def log_density_mse(energy: Energy, log_z: float, density: Density, x: Tensor) -> float:
    """Mean squared error of the normalised log-density on rows of the truth, in squared nats; arguments as above."""
    return float((log_prob_values(density, x).double() - _log_density(energy, log_z, x)).square().mean())
