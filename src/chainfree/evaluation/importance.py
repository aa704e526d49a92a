"""log Z by importance sampling."""

from __future__ import annotations

import torch
from torch import Tensor

from ..blocks import rows_at_a_time
from ..checks import energy_values, log_prob_values
from ..typing import Density, Energy
from .log_z import LogZ, log_mean_weight

__all__ = ["log_z_importance"]

_FIRST = 256  # rows before their size is known


@torch.no_grad()
def log_z_importance(
    energy: Energy,
    proposal: Density,
    *,
    samples: int = 100_000,
    generator: torch.Generator | None = None,
) -> LogZ:
    r"""log Z by importance sampling: :math:`\hat Z = \frac1N \sum_n e^{-E(x_n)} / q(x_n)`, :math:`x_n \sim q`.

    :math:`\hat Z` is unbiased, so its logarithm is too low on average. The standard error is the delta method's; trust
    neither when the effective sample size is small: a proposal that misses a mode does not know what it missed.

    Args:
        energy: ``(B, *event) -> (B,)``.
        proposal: any density; it should have heavier tails than the energy.
        samples: N, at least 2.
        generator: source of randomness.

    Raises:
        ValueError: fewer than 2 samples, or no sample with a finite weight.
    """
    if samples < 2:
        raise ValueError(f"samples must be at least 2, got {samples!r}")
    parts: list[Tensor] = []
    size, done = _FIRST, 0
    while done < samples:
        x = proposal.sample(min(size, samples - done), generator=generator)
        size, done = rows_at_a_time(x), done + len(x)
        parts.append(-energy_values(energy, x).double() - log_prob_values(proposal, x).double())
    return log_mean_weight(torch.cat(parts))
