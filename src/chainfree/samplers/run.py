"""Run any kernel: warm up, draw, and say whether the chains can be believed."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Generic

import numpy as np
import torch
from torch import Tensor

from ..checks import ContractError, require_positive_int
from .adaptation import warm_up
from .kernels import Kernel, StateT

__all__ = ["Record", "effective_sample_size", "r_hat", "run"]

_FEWEST = 4  # draws that split R-hat needs: two in each half


@dataclass(frozen=True, kw_only=True)
class Record(Generic[StateT]):
    """What :func:`run` returns.

    Args:
        draws: ``(draws, chains, *event)``.
        acceptance: mean acceptance probability over draws and chains, a 0-d tensor, or ``(K,)`` at K temperatures; ``None``
            for a kernel that never rejects and was given no target.
        divergences: transitions that diverged after warm-up, a 0-d tensor of whole numbers: more than a few mean that a part
            of the density was not reached. Of a kernel that never rejects: chains whose log-density is not finite at the end.
        step_size: with which it was drawn, ``()`` or ``(K,)``.
        scales: with which it was drawn, ``event``; ``None`` where warm-up found none.
        state: of the chains at the end.
    """

    draws: Tensor
    acceptance: Tensor | None
    divergences: Tensor
    step_size: Tensor
    scales: Tensor | None
    state: StateT

    def r_hat(self) -> Tensor:
        """:func:`r_hat` of the draws."""
        return r_hat(self.draws)

    def effective_sample_size(self) -> Tensor:
        """:func:`effective_sample_size` of the draws."""
        return effective_sample_size(self.draws)


@torch.no_grad()
def run(
    kernel: Kernel[StateT],
    x: Tensor,
    *,
    draws: int,
    warmup: int,
    step_size: float | Tensor,
    thin: int = 1,
    target: float | None = None,
    metric: bool = True,
    generator: torch.Generator | None = None,
) -> Record[StateT]:
    """Warm up, then keep every ``thin``-th state.

    Memory is that of ``draws`` times the chains, whatever the warm-up and ``thin``; nothing is brought to the host.

    Args:
        kernel: of ``mala.kernel(...)``, ``hmc.kernel(...)`` and so on.
        x: where the chains start, ``(chains, *event)``, at best farther apart than the target: only then can R-hat tell
            that they have not met; left as it is.
        draws: kept for each chain.
        warmup: steps before, as in :func:`chainfree.samplers.warm_up`, which are not kept; 0 draws with the step size as it
            is and without scales.
        step_size: at the start of the warm-up, in the kernel's units.
        thin: steps for each kept draw.
        target: mean acceptance that warm-up aims at; the kernel's own by default.
        metric: whether warm-up learns a scale for each feature, in whose units the step size then is.
        generator: source of randomness on the device of ``x``.

    Raises:
        ValueError: a setting out of its range.
        ContractError: there are no chains, or the log-density does not map to ``(B,)`` or has no gradient in the rows.

    >>> from chainfree.samplers import hmc
    >>> normal = hmc.kernel(lambda x: -0.5 * x.square().sum(1), leapfrog=4)
    >>> source = torch.Generator().manual_seed(0)
    >>> record = run(normal, torch.zeros(50, 2), draws=20, warmup=40, step_size=0.1, generator=source)
    >>> record.draws.shape, int(record.divergences)
    (torch.Size([20, 50, 2]), 0)
    """
    require_positive_int("draws", draws)
    require_positive_int("thin", thin)
    if not isinstance(warmup, int) or warmup < 0:
        raise ValueError(f"warmup must be a whole number of at least 0, got {warmup!r}")
    ready = warm_up(kernel, x, steps=warmup, step_size=step_size, target=target, metric=metric, generator=generator)
    state = ready.state
    kept = x.new_empty((draws, *x.shape))
    # acceptance is summed chain by chain, and over chains only at the end
    acceptance = torch.zeros((*kernel.shape, len(x)), dtype=x.dtype, device=x.device)
    divergences = torch.zeros((), dtype=torch.long, device=x.device)
    aimed = kernel.target is not None or target is not None
    for row in range(draws):
        for part in range(thin):
            state, info = kernel.step(state, step_size=ready.step_size, scales=ready.scales, generator=generator)
            if aimed:
                acceptance += info.acceptance
            # where nothing is rejected a chain that is lost stays lost: counting once, at the end, is enough
            if kernel.target is not None or (row, part) == (draws - 1, thin - 1):
                divergences += torch.count_nonzero(info.diverging)
            del info  # it may hold on to the state before, whose memory the next step can use while it is in the cache
        kept[row] = state.x
    return Record(
        draws=kept,
        acceptance=acceptance.mean(-1) / (draws * thin) if aimed else None,
        divergences=divergences,
        step_size=ready.step_size,
        scales=ready.scales,
        state=state,
    )


def r_hat(draws: Tensor) -> Tensor:
    r"""Split :math:`\hat R` of the ranks for each feature, ``event``: above 1.01 the chains have not met.

    Vehtari, Gelman, Simpson, Carpenter and Bürkner, "Rank-normalization, folding, and localization", Bayesian Analysis 16,
    2021, arXiv 1903.08008, by ArviZ.

    Args:
        draws: ``(draws, chains, *event)``.

    Returns:
        In float64 on the host; NaN with fewer than 4 draws, or where a draw is not finite.

    Raises:
        ImportError: ArviZ is not installed.
        ContractError: the shape is not that of draws.
    """
    return _diagnostic("rhat", "rank", draws)


def effective_sample_size(draws: Tensor) -> Tensor:
    r"""Bulk effective sample size for each feature, ``event``: of all chains together, of the ranks, by ArviZ.

    As many independent draws would know the middle of the distribution as well. About 400 are needed for it to be steady.

    Args:
        draws: ``(draws, chains, *event)``.

    Returns:
        In float64 on the host; NaN with fewer than 4 draws, or where a draw is not finite.

    Raises:
        ImportError: ArviZ is not installed.
        ContractError: the shape is not that of draws.
    """
    return _diagnostic("ess", "bulk", draws)


def _diagnostic(name: str, method: str, draws: Tensor) -> Tensor:
    if draws.dim() < 2:
        raise ContractError(f"draws must be (draws, chains, *event), got {tuple(draws.shape)}; run(...).draws is")
    arviz = _arviz()
    event = draws.shape[2:]
    columns = draws.detach().cpu().double().reshape(*draws.shape[:2], -1)
    values = torch.full((columns.shape[-1],), torch.nan, dtype=torch.float64)
    if len(draws) >= _FEWEST:
        for feature in range(columns.shape[-1]):
            column = columns[..., feature]
            if bool(torch.isfinite(column).all()):
                with np.errstate(divide="ignore", invalid="ignore"):  # chains that never moved: infinite, or NaN
                    # ArviZ has the chains first
                    values[feature] = float(getattr(arviz, name)(column.T.contiguous().numpy(), method=method))
    return values.view(event)


def _arviz() -> ModuleType:
    try:
        return importlib.import_module("arviz")
    except ImportError as error:
        raise ImportError(
            "R-hat and effective sample sizes need ArviZ; pip install 'chainfree[diagnostics]'"
        ) from error
