"""What every estimate of log Z is, and how importance weights make one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..functional.importance import kish

__all__ = ["ROUNDING", "LogZ", "bound_margin", "log_mean_weight"]

ROUNDING = 1e-6  # relative, of energies in float32: no bracket is narrower
_SIGMAS = 3.0
_WITHOUT_ERROR = (
    3.0  # nats: an unbiased estimate of Z or 1/Z is e^3 times it or more with a probability below 5 % (Markov)
)


@dataclass(frozen=True)
class LogZ:
    """An estimate of log Z in nats.

    Args:
        value: the estimate.
        standard_error: of ``value``; for quadrature, its change when every other node is left out.
        effective_sample_size: of the importance weights, Kish's; the number of nodes for quadrature.
    """

    value: float
    standard_error: float
    effective_sample_size: float


def log_mean_weight(log_weights: Tensor, *, families: Tensor | None = None) -> LogZ:
    r"""The logarithm of the mean weight, with the delta method's standard error and Kish's effective sample size.

    .. math:: \mathrm{ESS} = \frac{(\sum_n w_n)^2}{\sum_n w_n^2}, \qquad
              \mathrm{se}^2 = \frac{N}{N-1} \Bigl(\frac{1}{\mathrm{ESS}} - \frac1N\Bigr)

    The error is one of the weights seen: it is at most 1 however bad they are, and with few effective samples it says
    nothing.

    Args:
        log_weights: ``(N,)``, N at least 2, summed in float64.
        families: of which of N independent draws each weight descends, ``(N,)`` whole numbers below N, where weights were
            resampled on the way. Weights of a family depend on each other and count as one (Chan and Lai, 2013).

    Raises:
        ValueError: a weight that is NaN or infinite, or all are zero.
    """
    log_weights = log_weights.double()
    if not bool((log_weights < torch.inf).all()) or not bool(torch.isfinite(log_weights).any()):
        raise ValueError(
            "importance weights are NaN, infinite or all zero; does the proposal cover where the energy is finite?"
        )
    samples = len(log_weights)
    log_sum = torch.logsumexp(log_weights, 0)
    if families is None:
        ess = float(kish(log_weights))
    else:
        shares = torch.zeros_like(log_weights).index_add_(0, families, torch.exp(log_weights - log_sum))
        ess = float(kish(shares.log()))
    # var(Z^)/Z^2 = (1/ESS - 1/N) * N/(N-1): the delta method for the logarithm
    variance = (1 / ess - 1 / samples) * samples / (samples - 1)
    return LogZ(float(log_sum) - math.log(samples), math.sqrt(max(0.0, variance)), ess)


def bound_margin(found: LogZ, *, least_ess: float = 50.0) -> float:
    """How far a bracket should go beyond a stochastic bound, in nats.

    Three standard errors; or three nats if that is more, where the effective sample size is below ``least_ess``: the error
    then says nothing, while Markov's inequality holds for any unbiased estimate of Z or 1/Z.
    """
    error = _SIGMAS * found.standard_error + ROUNDING * max(1.0, abs(found.value))
    return error if found.effective_sample_size >= least_ess else max(error, _WITHOUT_ERROR)
