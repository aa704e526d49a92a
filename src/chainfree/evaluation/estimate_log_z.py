"""log Z with a bracket, by methods of different kinds that must agree."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from ..blocks import rows_at_a_time
from ..checks import energy_values, require_finite, require_positive
from ..energies.analytic import Gaussian
from ..typing import Density, Energy
from .ais import ais, reverse_ais
from .annealing import annealing_schedule, systematic
from .importance import log_z_importance
from .log_z import ROUNDING, LogZ, bound_margin
from .paths import KernelMaker
from .quadrature import grid_log_z

__all__ = ["LogLikelihood", "LogZDisagreement", "LogZEstimate", "UpperBound", "estimate_log_z", "log_likelihood"]

UpperBound = Literal["quadrature", "rows", "chains"]
OnDisagreement = Literal["raise", "flag"]

_APART = 3.0  # standard errors
_QUADRATURE_DIM = 2
_BOX_ROWS, _WIDENINGS = 4096, 5
_BETWEEN_NODES = 0.5  # nats: by more a smooth energy that a grid resolves does not fall between its nodes
_TAIL = 50.0  # at most so much mass outside of a grid by what is in its outermost hundredth: that of slow tails
_SETTLE = 16


@dataclass(frozen=True)
class LogZEstimate:
    """What :func:`estimate_log_z` found, in nats.

    Args:
        value: the most precise of the estimates that may be trusted.
        low: three standard errors below the highest lower bound; three nats, where its effective sample size is too small
            for an error.
        high: as far above the upper bound.
        estimates: by method: ``"quadrature"``, ``"importance"``, ``"ais"`` and ``"reverse_ais"``, as far as they were run.
        upper: what ``high`` rests on: quadrature, on a grid around all draws, and then **nothing would show a mode
            between its nodes that no draw has found**; reverse annealing from the caller's rows; or from the chains' own
            draws, and then **nothing would show a mode that neither chains nor proposal have found**.
        complaints: why the estimates do not agree; none where they do.
    """

    value: float
    low: float
    high: float
    estimates: Mapping[str, LogZ]
    upper: UpperBound
    complaints: tuple[str, ...] = field(default=())

    @property
    def agree(self) -> bool:
        """Whether two methods of different kinds can be trusted and found the same."""
        return not self.complaints

    @property
    def effective_sample_sizes(self) -> dict[str, float]:
        """By method."""
        return {name: found.effective_sample_size for name, found in self.estimates.items()}


class LogZDisagreement(ValueError):  # noqa: N818  a disagreement is what it is
    """The methods do not agree on log Z, or too few of them can be trusted.

    Args:
        estimate: all that was found, with the bracket.
    """

    def __init__(self, estimate: LogZEstimate) -> None:
        super().__init__(
            f"no log Z to trust between {estimate.low:.3f} and {estimate.high:.3f}: {'; '.join(estimate.complaints)}. Give a "
            "proposal nearer to the energy or more temperatures and chains, or take the bracket with on_disagreement='flag'"
        )
        self.estimate = estimate


@torch.no_grad()
def estimate_log_z(
    energy: Energy,
    *,
    proposal: Density | None = None,
    rows: Tensor | None = None,
    bounds: Sequence[tuple[float, float]] | None = None,
    samples: int = 100_000,
    chains: int = 1000,
    temperatures: int = 200,
    leapfrog: int = 8,
    kernel: KernelMaker | None = None,
    tolerance: float = 0.1,
    least_ess: float = 50.0,
    on_disagreement: OnDisagreement = "raise",
    generator: torch.Generator | None = None,
) -> LogZEstimate:
    r"""Estimate log Z from below and from above, and refuse where the estimates contradict each other.

    - In one or two dimensions (three, with ``bounds``): quadrature, checked by importance sampling from the proposal. A
      grid that cuts off mass, that changes when every other node is left out, or that has nowhere as low an energy as some
      draw is not trusted.
    - In more, or where one of these cannot be trusted: importance sampling, and annealed importance sampling from the
      proposal (:func:`ais`), which bound from below; and from above annealing back to the proposal (:func:`reverse_ais`)
      from ``rows``, or else from the ends of the chains, resampled and moved.

    An estimate is trusted if its effective sample size reaches ``least_ess``: the error of fewer is worthless. Its bound
    counts nevertheless, by Markov's inequality. Two trusted estimates agree if they differ by less than three standard errors
    or less than ``tolerance``. At least two must, one of them bounding from above.

    Args:
        energy: ``(B, *event) -> (B,)``, in nats, with a gradient in the rows.
        proposal: a normalised density with draws of the energy's type and device: a flow or a mixture fitted to data, a
            Gaussian. Without it, a Gaussian is fitted to one half of ``rows``, ``(N, dim)``, and the other half bounds from
            above.
        rows: draws of the energy, or data as far as it fits them, ``(N, *event)``; left as they are. They are first moved
            under the energy, which keeps exact draws exact. **They must not be rows that the proposal was fitted to**: a
            component that sits on one of them breaks the bound. A mode in them that the proposal misses shows.
        bounds: ``(low, high)`` of each axis for quadrature; by default a box around all draws, widened while it cuts mass
            off.
        samples: of importance sampling.
        chains: of annealing, and rows used at most.
        temperatures: of annealing.
        leapfrog: steps of each trajectory between them. The energy has about 2 · chains · temperatures · (leapfrog + 1)
            gradients to give.
        kernel: of the chains in place of trajectories: see :func:`annealing_schedule`. **Rows that are codes, or have codes,
            need one**; there is no quadrature over them.
        tolerance: nats by which estimates may differ whatever their errors.
        least_ess: see above.
        on_disagreement: ``"raise"``, or ``"flag"`` to have the estimate with its ``complaints``.
        generator: source of randomness.

    Raises:
        LogZDisagreement: the estimates differ, or too few can be trusted; it carries them.
        ValueError: neither proposal nor rows, rows of another shape or not finite, a setting out of its range, or weights
            that are NaN, infinite or all zero.
        ContractError: the energy's shape is not ``(B,)``, or it has no gradient in the rows.

    >>> from chainfree.energies import Gaussian, GaussianMixture
    >>> energy = GaussianMixture(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), 0.5)
    >>> g = torch.Generator().manual_seed(0)
    >>> found = estimate_log_z(energy, proposal=Gaussian(torch.zeros(2), 2 * torch.eye(2)), samples=1000, generator=g)
    >>> found.agree, round(abs(found.value), 4)
    (True, 0.0)
    """
    require_positive("tolerance", tolerance)
    require_positive("least_ess", least_ess)
    if on_disagreement not in get_args(OnDisagreement):
        raise ValueError(f"on_disagreement must be 'raise' or 'flag', got {on_disagreement!r}")
    if rows is not None:
        require_finite("rows", rows)
        rows = rows.detach()[torch.randperm(len(rows), generator=generator, device=rows.device)]
    if kernel is not None and (proposal is None or bounds is not None):
        raise ValueError("with a kernel give a proposal of the same rows, as a TabularMixture, and no bounds")
    if proposal is None:
        if rows is None or rows.dim() != 2 or len(rows) < 8:
            raise ValueError("give a proposal, or at least 8 rows (N, dim) to fit a Gaussian to")
        proposal, rows = Gaussian.fit(rows[: len(rows) // 2]).to(rows.device), rows[len(rows) // 2 :]
    draws = proposal.sample(_BOX_ROWS, generator=generator)
    if rows is not None and rows.shape[1:] != draws.shape[1:]:
        raise ValueError(
            f"rows are of shape {tuple(rows.shape[1:])}, draws of the proposal of {tuple(draws.shape[1:])}"
        )
    trust = _Trust(tolerance, least_ess)
    estimates = {"importance": log_z_importance(energy, proposal, samples=samples, generator=generator)}
    if bounds is not None or (kernel is None and draws.dim() == 2 and draws.shape[1] <= _QUADRATURE_DIM):
        grid = _quadrature(energy, bounds, draws if rows is None else torch.cat([draws, rows.to(draws)]))
        estimates |= {} if grid is None else {"quadrature": grid}
    upper: UpperBound = "quadrature"
    if not all(name in estimates and trust.holds(name, estimates[name]) for name in ("quadrature", "importance")):
        schedule = annealing_schedule(
            energy, proposal, temperatures=temperatures, leapfrog=leapfrog, kernel=kernel, generator=generator
        )
        there = ais(energy, proposal, schedule=schedule, chains=chains, resample_below=0.5, generator=generator)
        if rows is None:
            index = systematic(there.log_weights, generator)
            start, families = there.x[index], there.families[index]
        else:
            start, families = rows[:chains], None
        back = reverse_ais(
            energy,
            proposal,
            start,
            schedule=schedule,
            settle=_SETTLE,
            resample_below=0.5,
            families=families,
            generator=generator,
        )
        estimates |= {"ais": there.log_z, "reverse_ais": back.log_z}
        if "quadrature" not in estimates or not trust.holds("quadrature", estimates["quadrature"]):
            upper = "chains" if rows is None else "rows"
    estimate = _judged(estimates, upper, trust)
    if not estimate.agree and on_disagreement == "raise":
        raise LogZDisagreement(estimate)
    return estimate


class LogLikelihood(NamedTuple):
    """Mean log-likelihood of rows in nats, and what is not known of it.

    Args:
        mean: with the estimate's ``value``.
        low: with ``high`` of log Z.
        high: with ``low`` of log Z.
        standard_error: over the rows, of all three.
    """

    mean: float
    low: float
    high: float
    standard_error: float


@torch.no_grad()
def log_likelihood(energy: Energy, x: Tensor, estimate: LogZEstimate) -> LogLikelihood:
    """Mean log-likelihood of held-out rows with the bracket that log Z leaves it.

    Args:
        energy: ``(B, *event) -> (B,)``.
        x: rows, ``(N, *event)``, at least two.
        estimate: of :func:`estimate_log_z` for this energy.

    Raises:
        ValueError: fewer than two rows.
    """
    if len(x) < 2:
        raise ValueError(f"a standard error needs at least 2 rows, got {len(x)}")
    values = -torch.cat([energy_values(energy, part).double() for part in x.split(rows_at_a_time(x))])
    mean, error = float(values.mean()), float(values.std() / math.sqrt(len(x)))
    return LogLikelihood(mean - estimate.value, mean - estimate.high, mean - estimate.low, error)


@dataclass(frozen=True)
class _Trust:
    tolerance: float
    least_ess: float

    def holds(self, name: str, found: LogZ) -> bool:
        """Whether the standard error of an estimate means something."""
        if name == "quadrature":
            return found.standard_error <= self.tolerance
        return found.effective_sample_size >= self.least_ess

    def margin(self, name: str, found: LogZ) -> float:
        """How far a bracket goes beyond the estimate."""
        return bound_margin(found, least_ess=0.0 if name == "quadrature" else self.least_ess)


def _judged(estimates: Mapping[str, LogZ], upper: UpperBound, trust: _Trust) -> LogZEstimate:
    trusted = {name: found for name, found in estimates.items() if trust.holds(name, found)}
    complaints: list[str] = []
    for (a, first), (b, second) in combinations(trusted.items(), 2):
        apart = abs(first.value - second.value)
        if apart > max(trust.tolerance, _APART * math.hypot(first.standard_error, second.standard_error)):
            complaints.append(f"{a} found {first.value:.3f}, {b} {second.value:.3f}")
    needed = "quadrature" if upper == "quadrature" else "reverse_ais"
    if needed not in trusted or len(trusted) < 2:
        complaints += [
            f"{name} has an effective sample size of {found.effective_sample_size:.1f}, below {trust.least_ess:g}"
            for name, found in estimates.items()
            if name not in trusted and name != "quadrature"
        ]
    highest = max((found.value for found in trusted.values()), default=math.inf)
    overtaking = [
        name
        for name in ("importance", "ais")
        if name in estimates and name not in trusted and estimates[name].value > highest + trust.tolerance
    ]
    complaints += [
        f"{name} found {estimates[name].value:.3f}, more than the {highest:.3f} of those to trust: few draws have "
        "nearly all of its weight, perhaps from a narrow mode that the others have missed"
        for name in overtaking
    ]
    edges = {name: (f.value - trust.margin(name, f), f.value + trust.margin(name, f)) for name, f in estimates.items()}
    if upper == "quadrature":
        low, high = edges["quadrature"]
        if complaints:  # either may be wrong
            low, high = min(e[0] for e in edges.values()), max(e[1] for e in edges.values())
    else:
        low = max(edges[name][0] for name in ("importance", "ais"))
        high = max(edges[name][1] for name in ("reverse_ais", *overtaking))
    if low > high:
        complaints.append(f"the lower bound {low:.3f} is above the upper bound {high:.3f}; are the rows the energy's?")
        low, high = high, low
    from_below = [name for name in ("quadrature", "importance", "ais") if name in trusted] or ["ais"]
    best = min((estimates[name] for name in from_below), key=lambda found: found.standard_error)
    return LogZEstimate(min(max(best.value, low), high), low, high, estimates, upper, tuple(complaints))


def _quadrature(energy: Energy, bounds: Sequence[tuple[float, float]] | None, draws: Tensor) -> LogZ | None:
    """Over the bounds, or over the best of ever wider boxes around the draws; ``None`` where the energy is NaN in all.

    Wider boxes lose less of the mass and resolve less of it: the error counts both.
    """
    best: LogZ | None = None
    lowest = min(float(energy_values(energy, part).min()) for part in draws.split(rows_at_a_time(draws)))
    for box in [list(bounds)] if bounds is not None else _boxes(draws):
        found = grid_log_z(energy, box, points=None, device=draws.device, dtype=draws.dtype)
        error = max(found.log_z.standard_error, _TAIL * found.edge_share)
        if found.lowest_energy - lowest > _BETWEEN_NODES:
            error = math.inf  # draws are in a place that all nodes have missed
        if not math.isnan(error) and (best is None or error < best.standard_error):
            best = LogZ(found.log_z.value, error, found.log_z.effective_sample_size)
        if error < ROUNDING:
            break
    return best


def _boxes(draws: Tensor) -> Iterator[list[tuple[float, float]]]:
    low, high = draws.double().amin(0), draws.double().amax(0)
    for _ in range(_WIDENINGS):
        margin = 0.25 * (high - low)
        low, high = low - margin, high + margin
        yield list(zip(low.tolist(), high.tolist(), strict=True))
