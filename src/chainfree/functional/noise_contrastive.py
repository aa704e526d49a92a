"""Noise-contrastive losses, per sample: is a row data or noise, and which of a pair is the datum?

Gutmann and Hyvarinen, "Noise-Contrastive Estimation of Unnormalized Statistical Models", JMLR 13, 2012. Ceylan and Gutmann,
"Conditional Noise-Contrastive Estimation of Unnormalised Models", ICML 2018, arXiv 1806.03664.
"""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn.functional import softplus

from ..checks import require_positive

__all__ = ["conditional_noise_contrast", "noise_contrast"]


def noise_contrast(data_log_ratio: Tensor, noise_log_ratio: Tensor, *, ratio: float) -> Tensor:
    r"""The logistic loss of telling N rows of data from M of noise, in nats for every row of data.

    .. math:: -\tfrac1N\sum_i \log\sigma(r(x_i) - \log\nu) - \tfrac\nu M\sum_j \log\sigma(\log\nu - r(y_j))

    Args:
        data_log_ratio: r, the model's log-density less the noise's, at the data, ``(N,)``.
        noise_log_ratio: r at the noise, ``(M,)``.
        ratio: ν, how many rows of noise stand for one of data; M / N where all of them are given.

    Returns:
        A scalar, smallest in expectation where the model is the data's density.

    >>> noise_contrast(Tensor([0.0]), Tensor([0.0]), ratio=1.0)  # a coin: twice log 2
    tensor(1.3863)
    """
    require_positive("ratio", ratio)
    shift = math.log(ratio)
    return softplus(shift - data_log_ratio).mean() + ratio * softplus(noise_log_ratio - shift).mean()


def conditional_noise_contrast(data_energy: Tensor, pair_energy: Tensor, log_ratio: Tensor) -> Tensor:
    r"""The logistic loss of telling a datum from its perturbed copies, in which log Z drops out.

    .. math:: \frac1M\sum_j \log\bigl(1 + e^{E(x) - E(y_j) - \ell_j}\bigr), \quad
              \ell_j = \log q(y_j \mid x) - \log q(x \mid y_j), \quad y_j \sim q(y \mid x)

    Args:
        data_energy: E(x), ``(B,)``.
        pair_energy: E(y), ``(M, B)``.
        log_ratio: ℓ, ``(M, B)`` or a number; 0 for symmetric kernels.

    Returns:
        ``(B,)``, in nats.

    >>> conditional_noise_contrast(Tensor([0.0, 0.0]), Tensor([[0.0, 0.0]]), Tensor([0.0]))
    tensor([0.6931, 0.6931])
    """
    return softplus(data_energy - pair_energy - log_ratio).mean(0)
