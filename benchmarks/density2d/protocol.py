"""How one run is made and judged: the same for every method."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import zuko  # noqa: F401  a flow would import it within its budget
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from benchmarks.density2d.methods import METHODS
from chainfree.batches import batches
from chainfree.checks import energy_values, log_prob_values
from chainfree.datasets import toy_density
from chainfree.energies import Coordinates, GaussianMixture, InCoordinates
from chainfree.engine import Callback, Engine, TrainingDivergedError
from chainfree.evaluation import sliced_wasserstein
from chainfree.typing import Density, Energy

__all__ = ["BATCH", "BUDGET", "DENSITIES", "TEST", "VALIDATION", "Outcome", "run"]

DENSITIES = (
    "8gaussians",
    "25gaussians",
    "unequal_mixture",
    "moons",
    "rings",
    "pinwheel",
    "two_spirals",
    "checkerboard",
)
BUDGET = 6.0  # seconds of one core for training, with whatever is fitted to the rows first
ROWS, BATCH, HELD_OUT = 1_000_000, 256, 20_000  # more rows than a method sees in that time
VALIDATION, TEST = 76, 77  # seeds of held-out rows: the search never sees the latter
PROBE = 0.8  # seconds of a fit that is thrown away to measure a step; not counted
UNTIMED = 5  # its first steps, which allocate
SIDE, POINTS = 12.0, 769  # of the square that log Z and masses are taken over, and nodes an axis
IMAGE = slice(224, 545, 2)  # nodes from -5 to 5


@dataclass(frozen=True)
class Outcome:
    """A run's figures; all but the first three are ``None`` where it diverged or left mass at the square's edge.

    Args:
        steps: of training.
        seconds: of training, with what was fitted first.
        reason: why there is no result, or nothing.
        gap: nats by which the held-out NLL lies above the truth's.
        weight_error: largest error of a mode's mass, for mixtures.
        distance: sliced Wasserstein distance of exact draws of the model to draws of the truth.
        image: the density on every other node from -5 to 5, for pictures.
    """

    steps: int
    seconds: float
    reason: str = ""
    gap: float | None = None
    weight_error: float | None = None
    distance: float | None = None
    image: list[list[float]] | None = field(default=None, repr=False)


def run(
    method: str, settings: Mapping[str, Any], name: str, seed: int, *, held_out: int, budget: float = BUDGET
) -> Outcome:
    """Train by the method on a density, with rows of that seed, and judge on held-out rows of another."""
    torch.set_num_threads(1)
    with threadpool_limits(1):  # scikit-learn's threads spin, and what they spend counts
        return _run(method, settings, name, seed, held_out=held_out, budget=budget)


def _run(method: str, settings: Mapping[str, Any], name: str, seed: int, *, held_out: int, budget: float) -> Outcome:
    density = toy_density(name)
    rows = density.sample(ROWS, generator=torch.Generator().manual_seed(1000 + seed))
    coordinates = Coordinates.fit(rows, heavy_tails=False)
    rows = coordinates(rows).float()
    torch.manual_seed(seed)
    started = time.process_time()
    made = METHODS[method].make(rows, settings, seed)
    left = budget - (time.process_time() - started)
    start = {
        label: {key: value.clone() for key, value in module.state_dict().items()}
        for label, module in (("energy", made.energy), ("objective", made.objective))
        if isinstance(module, nn.Module)
    }

    def engine(callbacks: list[Callback], ema: float = 0.99) -> Engine:
        for label, state in start.items():
            getattr(made, label).load_state_dict(state)
        return Engine(made.energy, made.objective, seed=seed, optimizer=made.optimizer, ema=ema, callbacks=callbacks)

    def data() -> Any:
        return batches(rows, size=BATCH, seed=seed)

    try:
        rate = _Rate()
        engine([rate]).fit(data(), steps=1_000_000)
        steps = max(10, round(left / rate.per_step))
        # an average over the last twentieth of training, at most 500 steps
        final = engine([], ema=1 - 1 / min(500, max(10, steps / 20)))
        began = time.process_time()
        report = final.fit(data(), steps=steps)
    except TrainingDivergedError as error:
        return Outcome(0, time.process_time() - started, str(error))
    if report.stopped == "interrupted":
        raise KeyboardInterrupt(f"training was stopped by {final.interrupted_by}")
    seconds = budget - left + time.process_time() - began
    energy = InCoordinates(final.averaged_energy(), coordinates)
    return judged(energy, density, steps, seconds, held_out)


class _Rate(Callback):
    """Ends a fit after a time, and knows how long a step takes.

    In seconds of the core, not of the clock: what else runs on the machine takes little from the budget.
    """

    def __init__(self) -> None:
        self.per_step = 0.0
        self._since = 0.0

    def on_step(self, engine: Engine) -> None:
        """Count."""
        if engine.step == UNTIMED:
            self._since = time.process_time()
        elif engine.step > UNTIMED:
            spent = time.process_time() - self._since
            self.per_step = spent / (engine.step - UNTIMED)
            if spent > PROBE:
                engine.request_stop("measured")


@torch.no_grad()
def judged(energy: Energy, density: Density, steps: int, seconds: float, held_out: int) -> Outcome:
    """The figures of an energy."""
    axis = torch.linspace(-SIDE, SIDE, POINTS)
    grid = torch.cartesian_prod(axis, axis)
    log_density = -torch.cat([energy_values(energy, part) for part in grid.split(1 << 15)]).double()
    log_density += 2 * torch.log(axis[1] - axis[0])  # every node stands for its cell: the edges' halves hold no mass
    log_z = torch.logsumexp(log_density, 0)
    if not bool(torch.isfinite(log_z)):
        return Outcome(steps, seconds, "the energy is not finite on the square")
    mass = torch.exp(log_density - log_z)
    shell = (grid.abs().amax(1) > 0.95 * SIDE) & (mass > 0)
    if float(mass[shell].sum()) > 5e-3:
        return Outcome(steps, seconds, "mass lies at the edge of the square")
    test = density.sample(HELD_OUT, generator=torch.Generator().manual_seed(held_out))
    model = -torch.cat([energy_values(energy, part) for part in test.split(1 << 15)]).double() - log_z
    gap = float((log_prob_values(density, test).double() - model).mean())
    image = (mass.view(POINTS, POINTS)[IMAGE, IMAGE] / float(axis[1] - axis[0]) ** 2).float()
    return Outcome(
        steps,
        seconds,
        "",
        gap,
        _weight_error(density, grid, mass),
        _distance(density, grid, mass, test),
        image.tolist(),
    )


def _weight_error(density: Density, grid: Tensor, mass: Tensor) -> float | None:
    """Every cell's mass goes to its nearest mode: half-way between modes there is next to none."""
    if not isinstance(density, GaussianMixture):
        return None
    nearest = torch.cdist(grid, density.means).argmin(1)
    masses = torch.zeros(len(density.means), dtype=mass.dtype).index_add_(0, nearest, mass)
    return float((masses - density.log_weights.exp()).abs().max())


def _distance(density: Density, grid: Tensor, mass: Tensor, test: Tensor) -> float:
    """Draws of the grid's cells, uniform within each."""
    source = torch.Generator().manual_seed(7)
    cells = torch.multinomial(mass.float(), 5000, replacement=True, generator=source)
    width = 2 * SIDE / (POINTS - 1)
    draws = grid[cells] + width * (torch.rand(len(cells), 2, generator=source) - 0.5)
    return sliced_wasserstein(draws, test[:5000], seed=0, projections=200)
