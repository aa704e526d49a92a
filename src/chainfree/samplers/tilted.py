"""Draws of a tilted base, by weights among its own draws: no chain, and every draw independent of the others.

Rubin, "The calculation of posterior distributions by data augmentation: comment", JASA 82(398), 1987, for
sampling-importance-resampling.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol, cast

import torch
from torch import Tensor

from ..blocks import rows_at_a_time
from ..checks import energy_values, require_positive_int
from ..energies import Tilted
from ..typing import Density

__all__ = [
    "ConditionalDensity",
    "Proposals",
    "WeightedDraws",
    "require_conditional",
    "sample_tilted",
    "sample_tilted_given",
    "weighted_given",
]


class ConditionalDensity(Density, Protocol):
    """A density that can be drawn from given some of a row's columns, such as :class:`chainfree.energies.TabularMixture`."""

    def sample_given(
        self, x: Tensor, fixed: Tensor, *, draws: int = 1, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draws of the other columns given the fixed ones, ``(B * draws, D)``, a row's own beside each other."""
        ...

    def log_marginal(self, x: Tensor, fixed: Tensor) -> Tensor:
        """Log-density of the fixed cells in nats, ``(B,)``."""
        ...


class Proposals(NamedTuple):
    """What :func:`weighted_given` yields.

    Args:
        x: draws of the base for each row, ``(n, P, D)``.
        weights: of each among its row's, float64, ``(n, P)``.
    """

    x: Tensor
    weights: Tensor


class WeightedDraws(NamedTuple):
    """What :func:`sample_tilted` and :func:`sample_tilted_given` return.

    Args:
        x: one draw a row, ``(n, D)``.
        effective_proposals: Kish's effective number of each row's proposals, ``(n,)``. Near 1 a draw is the base's best guess
            and no draw of the energy.
    """

    x: Tensor
    effective_proposals: Tensor


@torch.no_grad()
def sample_tilted(
    energy: Tilted, n: int, *, proposals: int = 64, generator: torch.Generator | None = None
) -> WeightedDraws:
    r"""``n`` draws of :math:`p_0 e^{-f}`: for each, one of its own proposals from :math:`p_0` by weights :math:`e^{-f}`.

    The draws are exact as the proposals grow; the error in any mean is of the order of the weights' variance over the number
    of proposals.

    Args:
        energy: whose base is drawn from.
        n: draws, at least 0.
        proposals: for each draw.
        generator: source of randomness on the energy's device.

    Raises:
        ValueError: ``proposals`` below 1, or weights that are not finite.
    """
    require_positive_int("proposals", proposals)
    parts: list[WeightedDraws] = []
    done, at_once = 0, 1
    while done < n or not parts:
        size = min(at_once, n - done)
        x = energy.base.sample(size * proposals, generator=generator)
        parts.append(_one_of_each(_weighted(energy, x.unflatten(0, (size, proposals))), generator))
        done += size
        at_once = max(1, rows_at_a_time(x) // proposals)
    return WeightedDraws(*(torch.cat(part) for part in zip(*parts, strict=True)))


@torch.no_grad()
def sample_tilted_given(
    energy: Tilted, x: Tensor, fixed: Tensor, *, proposals: int = 64, generator: torch.Generator | None = None
) -> WeightedDraws:
    """A draw of the other columns given the fixed ones, for every row: no rejection, whatever is fixed.

    Args:
        energy: whose base can be drawn from given columns.
        x: rows ``(B, D)``, of which only fixed cells are read.
        fixed: which cells are, boolean, ``(B, D)``.
        proposals: for each draw, from the base's own conditional.
        generator: source of randomness on the energy's device.

    Raises:
        ValueError: ``proposals`` below 1, weights that are not finite, or what the base refuses.
        TypeError: the base cannot be drawn from given columns.
    """
    parts = [
        _one_of_each(found, generator)
        for found in weighted_given(energy, x, fixed, proposals=proposals, generator=generator)
    ]
    return WeightedDraws(*(torch.cat(part) for part in zip(*parts, strict=True)))


def weighted_given(
    energy: Tilted, x: Tensor, fixed: Tensor, *, proposals: int = 64, generator: torch.Generator | None = None
) -> Iterator[Proposals]:
    """For every row, draws of the base given its fixed cells, with weights that make them draws of the energy.

    What means and most likely values are taken over; :func:`sample_tilted_given` takes one of each.

    Args:
        energy, x, fixed, proposals, generator: as for :func:`sample_tilted_given`.

    Yields:
        Rows in their order, as many at a time as memory allows.

    Raises:
        ValueError, TypeError: as for :func:`sample_tilted_given`.
    """
    require_positive_int("proposals", proposals)
    base = require_conditional(energy.base)
    at_once = max(1, rows_at_a_time(x) // proposals)
    for rows, known in zip(x.split(at_once), fixed.split(at_once), strict=True):
        with torch.no_grad():
            drawn = base.sample_given(rows, known, draws=proposals, generator=generator)
            found = _weighted(energy, drawn.unflatten(0, (len(rows), proposals)))
        yield found  # not within no_grad, which would hold for whoever asks


def require_conditional(base: Density) -> ConditionalDensity:
    """The base, if it is one.

    Raises:
        TypeError: it cannot be drawn from given columns.
    """
    if not callable(getattr(base, "sample_given", None)) or not callable(getattr(base, "log_marginal", None)):
        raise TypeError(
            f"a {type(base).__name__} has no sample_given(x, fixed) and log_marginal(x, fixed); tilt a TabularMixture"
        )
    return cast(ConditionalDensity, base)


def _weighted(energy: Tilted, proposals: Tensor) -> Proposals:
    """Of ``(n, proposals, D)``."""
    log_weights = -energy_values(energy.network, proposals.flatten(0, 1)).view(proposals.shape[:2]).double()
    if not bool(torch.isfinite(log_weights).all()):
        raise ValueError("the tilt is not finite on draws of its base; train it again with a smaller learning rate")
    return Proposals(proposals, log_weights.softmax(1))


def _one_of_each(found: Proposals, generator: torch.Generator | None) -> WeightedDraws:
    weights = found.weights
    shares = weights.cumsum(1)
    u = torch.rand(len(weights), 1, dtype=torch.float64, device=shares.device, generator=generator) * shares[:, -1:]
    chosen = (shares <= u).sum(1).clamp_max(weights.shape[1] - 1)
    rows = torch.arange(len(weights), device=chosen.device)
    return WeightedDraws(found.x[rows, chosen], 1 / weights.square().sum(1))
