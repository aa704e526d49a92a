r"""Bounds on log Z from a generator: what each holds for, and under which assumption."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import energy_values, require_positive_int
from ..functional.entropy import mixture_log_prob
from ..generators.base import LatentGenerator
from ..typing import Energy
from .log_z import LogZ, log_mean_weight

__all__ = ["LogZBounds", "log_z_bounds"]


@dataclass(frozen=True)
class LogZBounds:
    r"""Bounds on log Z in nats, each in expectation: an estimate may lie on the wrong side by its standard error.

    Args:
        variational: :math:`E_q[-E(x)] + H(q)`, below log Z by :math:`\mathrm{KL}(q \Vert p)`.
        importance: :math:`\log \frac1N\sum_n e^{-E(x_n)}/q(x_n)`, also below (Jensen), never by more, with its standard error
            and effective sample size.
        upper: :math:`E_{p}[-E(x) - \log q(x)]`, above log Z by :math:`\mathrm{KL}(p \Vert q)`; ``None`` without rows of p.
        upper_error: its standard error.
    """

    variational: float
    importance: LogZ
    upper: float | None
    upper_error: float | None


@torch.no_grad()
def log_z_bounds(
    energy: Energy,
    sampler: LatentGenerator,
    *,
    samples: int = 4096,
    rows: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> LogZBounds:
    r"""Bounds on log Z with the mixture :math:`q = \frac1B\sum_b N(g(z_b), \sigma^2 I)` of B draws of the generator.

    Given its means the mixture is a density that is known exactly, and the samples are a stratified draw of it, so nothing
    is estimated but the expectations. In many dimensions its kernels do not overlap and the bounds are wide; they hold
    all the same.

    Args:
        energy: ``(B, *event) -> (B,)``.
        sampler: a generator, best fitted to the energy by :func:`chainfree.fit_generator`.
        samples: B; time and memory are its square.
        rows: independent draws from the energy's own density, ``(N, *event)``, for the upper bound. Data serve only as far
            as the energy fits them: then the bound is the data's cross-entropy, and no bound where the energy does not.
        generator: source of randomness.

    Raises:
        ValueError: fewer than 2 samples, or weights that are not finite.
    """
    require_positive_int("samples", samples)
    if samples < 2:
        raise ValueError(f"samples must be at least 2, got {samples!r}")
    net = copy.deepcopy(sampler).eval()  # the caller's stays in the mode it is in
    draw = net.sample(samples, generator=generator)
    log_weights = _log_weights(energy, draw.x, draw.mean, net)
    if not bool(torch.isfinite(log_weights).all()):
        raise ValueError("the energy is not finite on the generator's samples; fit the generator to it first")
    importance = log_mean_weight(log_weights)
    upper = upper_error = None
    if rows is not None:
        above = _log_weights(energy, rows, draw.mean, net)
        upper = float(above.mean())
        upper_error = float(above.std() / math.sqrt(len(rows)))
    return LogZBounds(float(log_weights.mean()), importance, upper, upper_error)


def _log_weights(energy: Energy, x: Tensor, means: Tensor, net: LatentGenerator) -> Tensor:
    # distances in float64: of images, those of neighbours are small differences of large numbers
    bank, log_sigma = means.double(), net.log_sigma.double()
    parts = [
        -energy_values(energy, part).double() - mixture_log_prob(part.double(), bank, log_sigma)
        for part in x.split(1024)
    ]
    return torch.cat(parts)
