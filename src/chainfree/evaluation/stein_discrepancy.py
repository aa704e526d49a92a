r"""The kernel Stein discrepancy of samples from an energy: how far they are from its density, without its log Z.

Liu, Lee, Jordan, "A Kernelized Stein Discrepancy for Goodness-of-fit Tests", ICML 2016, arXiv 1602.03253. Chwialkowski,
Strathmann, Gretton, "A Kernel Test of Goodness of Fit", ICML 2016, arXiv 1602.02964 (the wild bootstrap). Gorham, Mackey,
"Measuring Sample Quality with Kernels", ICML 2017, arXiv 1703.01717 (the inverse multiquadric).
"""

from __future__ import annotations

from functools import partial
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from ..checks import energy_values, require_finite
from ..samplers.gradients import value_and_gradient
from ..typing import Energy
from .rows import chosen_bandwidth, flat_rows

__all__ = ["SteinDiscrepancy", "SteinKernel", "stein_discrepancy"]

SteinKernel = Literal["imq", "rbf"]

_ROWS_AT_A_TIME = 4096
_PAIRS_AT_A_TIME = 1 << 21  # 16 MiB an array: memory is linear in the rows, time is not


class SteinDiscrepancy(NamedTuple):
    """The squared discrepancy, estimated in two ways, and a test.

    Args:
        u_statistic: without the pairs of a row with itself: 0 on average for exact draws, so it may be negative.
        v_statistic: with them: never negative, and too high by E u(x, x) / N.
        p_value: of the hypothesis that the rows are draws of the energy's density; ``None`` without a bootstrap.
    """

    u_statistic: float
    v_statistic: float
    p_value: float | None


def stein_discrepancy(
    energy: Energy,
    x: Tensor,
    *,
    kernel: SteinKernel = "imq",
    bandwidth: float | None = None,
    exponent: float = -0.5,
    bootstrap: int = 0,
    flip: float = 0.5,
    seed: int | None = None,
) -> SteinDiscrepancy:
    r"""The mean over pairs of rows of the Stein kernel, which is 0 on average for draws of the energy.

    .. math:: u(x, y) = s(x)^\top s(y)\, k + s(x)^\top \nabla_y k + s(y)^\top \nabla_x k + \mathrm{tr} \nabla_x \nabla_y k,

    with the score :math:`s = -\nabla E` of :math:`p \propto e^{-E}`. It does not know how much mass far modes have: **samples
    of one mode alone look right**. In many dimensions the Gaussian kernel does not see tails, the inverse
    multiquadric does.

    Args:
        energy: ``(B, *event) -> (B,)``, in nats; its scores are taken 4096 rows at a time.
        x: samples, ``(N, *event)``, at least two, of the energy's type and device.
        kernel: ``"imq"``, :math:`(c^2 + |x - y|^2)^\beta`, or ``"rbf"``, :math:`e^{-|x - y|^2 / 2 c^2}`.
        bandwidth: c, in units of the rows; their median distance by default.
        exponent: :math:`\beta` of ``"imq"``, between -1 and 0.
        bootstrap: draws of the wild bootstrap, :math:`\frac1{N^2} \sum_{ij} W_i W_j u(x_i, x_j)` with random signs W; 0 for
            no p-value. The smallest p-value is 1 / (1 + ``bootstrap``).
        flip: probability that the sign changes from a row to the next, 0.5 for independent rows. Of a chain, whose
            neighbours are alike, less: well below the reciprocal of its autocorrelation time.
        seed: of the signs; needed for a bootstrap.

    Raises:
        ValueError: rows that are not finite floats, fewer than two, a score that is not finite, or a setting out of its
            range.
        ContractError: the energy's shape is not ``(B,)``, or it has no gradient in the rows.

    >>> draws = torch.linspace(-2, 2, 5).unsqueeze(1)
    >>> stein_discrepancy(lambda x: 0.5 * x.square().sum(1), draws + 9).v_statistic > 10
    True
    """
    if kernel not in get_args(SteinKernel):
        raise ValueError(f"kernel must be one of {', '.join(get_args(SteinKernel))}, got {kernel!r}")
    if not -1 < exponent < 0:
        raise ValueError(f"exponent must be between -1 and 0, got {exponent!r}; -0.5 is the usual one")
    if not isinstance(bootstrap, int) or bootstrap < 0:
        raise ValueError(f"bootstrap must be a whole number of at least 0, got {bootstrap!r}")
    if not 0 < flip <= 0.5:
        raise ValueError(f"flip must be above 0 and at most 0.5, got {flip!r}; 0.5 is for independent rows")
    if bootstrap and seed is None:
        raise ValueError("a bootstrap draws random signs; give its seed")
    array = flat_rows("x", x)
    c = chosen_bandwidth(bandwidth, array)
    scores = _scores(energy, x)
    rows = torch.from_numpy(array - array.mean(0))  # far from the origin, products of rows would cancel
    signs = _signs(len(rows), bootstrap, flip, seed)
    count, total, trace = len(rows), 0.0, 0.0
    drawn = torch.zeros(bootstrap, dtype=torch.float64)
    step = max(1, _PAIRS_AT_A_TIME // count)
    for start in range(0, count, step):
        part = slice(start, start + step)
        values = _stein_kernel(rows[part], rows, scores[part], scores, kernel=kernel, c=c, exponent=exponent)
        total += float(values.sum())
        trace += float(values.diagonal(offset=start).sum())
        drawn += (signs[part] * (values @ signs)).sum(0)
    p_value = (1 + int((drawn >= total).sum())) / (1 + bootstrap) if bootstrap else None
    return SteinDiscrepancy((total - trace) / (count * (count - 1)), total / count**2, p_value)


def _scores(energy: Energy, x: Tensor) -> Tensor:
    evaluate = partial(energy_values, energy)
    parts = [value_and_gradient(evaluate, part)[1].flatten(1).double().cpu() for part in x.split(_ROWS_AT_A_TIME)]
    scores = -torch.cat(parts)
    require_finite("the energy's score", scores)
    return scores


def _stein_kernel(
    x: Tensor, y: Tensor, s: Tensor, t: Tensor, *, kernel: SteinKernel, c: float, exponent: float
) -> Tensor:
    """``(N, M)`` of rows x with scores s and rows y with scores t."""
    squares = torch.cdist(x, y).square()
    # k = f(r) of the squared distance r, so that its gradients are 2 f' (x - y), and the trace -2 D f' - 4 r f''
    if kernel == "rbf":
        value = torch.exp(squares / (-2 * c * c))
        first, second = value / (-2 * c * c), value / (4 * c**4)
    else:
        base = c * c + squares
        value = base**exponent
        first = exponent * value / base
        second = (exponent - 1) * first / base
    along = (s * x).sum(1, keepdim=True) - s @ y.T - x @ t.T + (t * y).sum(1)  # (s - t) (x - y)
    return s @ t.T * value - 2 * first * (along + x.shape[1]) - 4 * squares * second


def _signs(rows: int, draws: int, flip: float, seed: int | None) -> Tensor:
    """``(rows, draws)`` of -1 and 1, each column a Markov chain that changes sign with probability ``flip``."""
    if not draws:
        return torch.zeros(rows, 0, dtype=torch.float64)
    assert seed is not None
    uniform = torch.rand(rows, draws, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    uniform[0] -= 0.5 - flip  # the first sign is a fair coin
    return 1 - 2 * ((uniform < flip).cumsum(0) % 2).double()
