r"""Gibbs sampling of codes: a step goes over all sites and draws each from its conditional, given all others.

Geman and Geman, IEEE Transactions on Pattern Analysis and Machine Intelligence 6, 1984. Nothing is rejected, and the
log-density needs no gradient: of a site with S values all are evaluated, for all chains in one pass.

    sites = [(0, 3), (1, 2)]  # columns and how many values they have
    state = gibbs.init(log_density, x)
    state, info = gibbs.step(log_density, state, sites=sites, generator=generator)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..checks import ContractError, energy_values, require_finite, require_positive_int
from .kernels import Kernel, LogDensity
from .metropolis import not_finite

__all__ = ["Info", "Sites", "State", "init", "kernel", "require_sites", "step"]

Sites = Sequence[tuple[int, int]]
"""Columns of rows ``(B, D)``, each with its number S of values 0, 1, ..., S - 1."""


class State(NamedTuple):
    """Where each of B chains is.

    Args:
        x: ``(B, D)``, codes in the rows' own floats.
        log_density: in nats, up to a constant, ``(B,)``.
    """

    x: Tensor
    log_density: Tensor


class Info(NamedTuple):
    """What one step did to each chain.

    Args:
        after: the state it went to.
    """

    after: State

    @property
    def acceptance(self) -> Tensor:
        """1 everywhere, ``(B,)``: nothing is proposed."""
        return torch.ones_like(self.after.log_density)

    @property
    def diverging(self) -> Tensor:
        """Whether the log-density is not finite, ``(B,)``: of no value of any site there is a density."""
        return not_finite(self.after.log_density)


@torch.no_grad()
def init(log_density: LogDensity, x: Tensor) -> State:
    """Chains that start in the rows of ``x``, ``(B, D)``.

    Raises:
        ContractError: rows of another shape, or ``log_density`` does not map them to ``(B,)``.
    """
    if x.dim() != 2:
        raise ContractError(f"codes are columns of rows (B, D), got shape {tuple(x.shape)}")
    require_finite("rows", x)
    return State(x.detach(), energy_values(log_density, x.detach()))


@torch.no_grad()
def step(
    log_density: LogDensity, state: State, *, sites: Sites, generator: torch.Generator | None = None
) -> tuple[State, Info]:
    """One draw of every site, in their order, so that the density stays.

    Args:
        log_density: ``(B, D) -> (B,)`` in nats, up to a constant; evaluated for S - 1 rows a site and chain. A value where it
            is NaN or infinite is not drawn.
        state: of :func:`init` or the step before, under the same log-density.
        sites: columns and their numbers of values; other columns stay.
        generator: source of randomness on the device of the state.

    Raises:
        ValueError: sites that are none.
        ContractError: as :func:`init`, or codes of no value of their site, where rows are on the CPU.
    """
    require_sites(sites, state.x.shape[1])
    for column, size in sites:
        codes = state.x[:, column]
        # on an accelerator looking would wait
        if codes.device.type == "cpu" and not bool(((codes >= 0) & (codes < size) & (codes == codes.long())).all()):
            raise ContractError(
                f"column {column} is to hold whole numbers from 0 to {size - 1}; start the chains in such rows"
            )
    x, known = state.x.clone(), state.log_density
    for column, size in sites:
        others = torch.arange(1, size, device=x.device, dtype=x.dtype)
        rows = x.repeat_interleave(size - 1, 0)
        rows[:, column] = (x[:, column].unsqueeze(1) + others).remainder(size).flatten()
        values = torch.cat([known.unsqueeze(1), energy_values(log_density, rows).view(-1, size - 1)], dim=1)
        values = values.masked_fill(not_finite(values), -torch.inf)
        level = torch.rand(values.shape, generator=generator, device=x.device, dtype=torch.float64)
        gumbel = -torch.log(-torch.log(level.clamp_min(torch.finfo(torch.float64).tiny)))
        taken = (values + gumbel).argmax(1)  # where no value has a density, the one it has
        x[:, column] = (x[:, column] + taken).remainder(size)
        known = values.gather(1, taken.unsqueeze(1)).squeeze(1)
    following = State(x, known)
    return following, Info(following)


def kernel(log_density: LogDensity, *, sites: Sites) -> Kernel[State]:
    """:func:`init` and :func:`step` for :func:`chainfree.samplers.run`, whose step size means nothing here: give 1.

    Args:
        log_density: as for :func:`step`.
        sites: columns of codes with their numbers of values: ``list(enumerate(categories))`` where all columns are.
    """
    return Kernel(
        init=lambda x, *, generator=None: init(log_density, x),
        step=lambda state, *, step_size, scales=None, generator=None: step(
            log_density, state, sites=sites, generator=generator
        ),
        target=None,
    )


def require_sites(sites: Sites, width: int) -> None:
    """Raise ``ValueError`` unless these are different columns of rows of this width, with at least two values each."""
    if not all(isinstance(site, tuple) and len(site) == 2 for site in sites):
        raise ValueError(
            f"sites are pairs of a column and its number of values, got {sites!r}; list(enumerate(sizes)) for all"
        )
    columns = [column for column, _ in sites]
    if not columns or len(set(columns)) < len(columns) or not set(columns) <= set(range(width)):
        raise ValueError(f"sites must be different columns from 0 to {width - 1}, at least one, got {columns}")
    for column, size in sites:
        require_positive_int("the number of values of a site", size)
        if size < 2:
            raise ValueError(f"site {column} has one value only; leave it out")
