"""Training, sampling and normalising without chains: energy discrepancy, then a generator and a flow.

25 Gaussians (Schroeder et al., NeurIPS 2023, arXiv 2307.06431): the energy is trained by energy discrepancy and frozen; a
generator is fitted to the energy alone, a flow to the data. Samples are the generator's, resampled by their importance
weights; beside them those of the generator alone and of a Langevin chain on the same energy.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from .. import plotting
from ..batches import batches
from ..checks import require_positive, require_positive_int
from ..datasets import toy_density
from ..energies import Coordinates, FourierMLP, Gaussian, GaussianMixture, Tilted
from ..engine import Cosine, Engine, OptimizerSettings
from ..evaluation import log_z_bounds, log_z_importance, log_z_quadrature, mixture_modes, sliced_wasserstein
from ..fitting import fit_flow, fit_generator
from ..generators import LatentGenerator, ResidualGenerator
from ..losses import EnergyDiscrepancy
from ..objectives import WeightedNegatives
from ..perturbations import Gaussian as GaussianNoise
from ..samplers import langevin, resample
from ..typing import Energy
from .checks import require_each, require_seeds

__all__ = ["EDThenGenerator"]

_BOX = 4.0  # half the side that holds the data, in their units
_STD = 0.2 / 1.414  # of a mode
_PROJECTIONS = 500


@dataclass(frozen=True, kw_only=True)
class EDThenGenerator:
    """Settings of the experiment.

    Args:
        rows: data drawn.
        energy_steps: of energy discrepancy, with the network and loss of the recipe ``ed_25gaussians``.
        generator_steps: rounds of :func:`chainfree.fit_generator`.
        samples: of the generator a round.
        proposals: of the generator for one call of :func:`chainfree.samplers.resample`, which keeps half as many.
        flow_steps: of the flow's fit, at most.
        log_z_samples: of the flow, for log Z.
        drawn: samples that modes are counted on.
        compared: samples whose sliced Wasserstein distance to data is taken.
        langevin_steps: the chain is given up after so many.
        langevin_step_sizes: tried; the one that is there first counts, or else the one that came nearest.
        check_every: steps of the chain between distances.
        seeds: of everything; the figures are the worst over them.
    """

    rows: int = 50_000
    energy_steps: int = 1900
    generator_steps: int = 4000
    samples: int = 512
    proposals: int = 4096
    flow_steps: int = 3000
    log_z_samples: int = 100_000
    drawn: int = 50_000
    compared: int = 4000
    langevin_steps: int = 5000
    langevin_step_sizes: Sequence[float] = (0.002, 0.006)
    check_every: int = 500
    seeds: Sequence[int] = (0,)

    def __post_init__(self) -> None:
        for name in ("rows", "energy_steps", "generator_steps", "samples", "flow_steps", "log_z_samples", "drawn"):
            require_positive_int(name, getattr(self, name))
        for name in ("compared", "langevin_steps", "check_every"):
            require_positive_int(name, getattr(self, name))
        if not isinstance(self.proposals, int) or self.proposals < 2:
            raise ValueError(f"proposals must be a whole number, at least 2, got {self.proposals!r}")
        require_each("langevin_step_sizes", self.langevin_step_sizes, require_positive)
        require_seeds(self.seeds)

    def run(self) -> tuple[dict[str, Any], Figure]:
        """Figures, the worst over the seeds and by seed, and the picture of the first seed's samples."""
        outcomes = [self._one(seed) for seed in self.seeds]
        by_seed = [figures for figures, _ in outcomes]
        figures = {
            "modes": min(f["modes"] for f in by_seed),
            "worst_share_error": max(f["worst_share_error"] for f in by_seed),
            "sampling_speedup": min(f["sampling_speedup"] for f in by_seed),
            "langevin_reached": all(f["langevin_reached"] for f in by_seed),
            "log_z_error_flow": max((f["log_z_error_flow"] for f in by_seed), key=abs),
            "by_seed": by_seed,
        }
        title = "25 Gaussians: an energy by energy discrepancy, then samplers for it"
        picture = plotting.sample_panels(outcomes[0][1], bounds=((-_BOX, _BOX), (-_BOX, _BOX)), title=title)
        return figures, picture

    def _one(self, seed: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
        density = toy_density("25gaussians")
        assert isinstance(density, GaussianMixture)
        data = density.sample(self.rows, generator=_source(seed))
        energy = self._energy(data, seed)
        coordinates = Coordinates.fit(data, heavy_tails=False)

        def standardised(u: Tensor) -> Tensor:
            values: Tensor = energy(coordinates.inverse(u))
            return values

        fitted = fit_generator(
            standardised,
            self._start(seed),
            samples=self.samples,
            negatives=WeightedNegatives(defensive=Gaussian(torch.zeros(2), 1.5**2 * torch.eye(2))),
            steps=self.generator_steps,
            lr=3e-3,
            betas=(0.9, 0.99),
            annealing=0.4,
            seed=seed,
        )
        sampler = _Sampler(standardised, fitted.generator, coordinates, self.proposals)
        samples, alone = sampler.resampled(self.drawn, seed), sampler.alone(self.drawn, seed)
        modes, modes_alone = (mixture_modes(x, density.means, std=_STD) for x in (samples, alone))
        began = time.perf_counter()
        flow = fit_flow(data, steps=self.flow_steps, seed=seed)
        flow_seconds = time.perf_counter() - began
        exact = log_z_quadrature(energy, [(-10.0, 10.0)] * 2, points=1601)
        estimate = log_z_importance(energy, flow, samples=self.log_z_samples, generator=_source(seed + 1))
        # the bounds are in the coordinates that the generator knows; log Z differs by their constant log-determinant
        shift = float(coordinates.log_abs_det(data[:1]))
        bounds = log_z_bounds(
            standardised,
            fitted.generator,
            rows=coordinates(data[:4000]),
            generator=_source(seed),
        )
        race, chain = self._race(energy, sampler, density, seed)
        figures = {
            "seed": seed,
            "modes": modes.covered,
            "worst_share_error": modes.worst_relative_error,
            "within_three_deviations": modes.within,
            "modes_generator_alone": modes_alone.covered,
            "worst_share_error_generator_alone": modes_alone.worst_relative_error,
            "within_three_deviations_generator_alone": modes_alone.within,
            "generator_seconds": fitted.seconds,
            "flow_seconds": flow_seconds,
            "log_z_quadrature": exact.value,
            "log_z_error_flow": estimate.value - exact.value,
            "log_z_standard_error": estimate.standard_error,
            "flow_effective_share": estimate.effective_sample_size / self.log_z_samples,
            "log_z_lower_variational": bounds.variational - shift,
            "log_z_lower_importance": bounds.importance.value - shift,
            "log_z_upper_if_data_fit": None if bounds.upper is None else bounds.upper - shift,
            **race,
        }
        shown = {
            "data": data[:4000],
            "generator alone": alone[:4000],
            f"resampled, {modes.covered} modes": samples[:4000],
            "flow": flow.sample(4000, generator=_source(seed + 2)),
            f"Langevin, {race['langevin_steps']:,} steps": chain,
        }
        return figures, shown

    def _energy(self, data: Tensor, seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = FourierMLP(2, width=96, depth=3, features=32, scale=2.0, seed=seed)
        engine = Engine(
            Tilted(Gaussian.fit(data), network),
            EnergyDiscrepancy(perturbation=GaussianNoise(t=2.0), draws=2),
            seed=seed,
            optimizer=OptimizerSettings(lr=4e-3),
            schedule=Cosine(warmup=50),
            ema=0.99,
        )
        engine.fit(batches(data, size=min(256, len(data)), seed=seed), steps=self.energy_steps)
        return engine.averaged_energy()

    def _start(self, seed: int) -> LatentGenerator:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return ResidualGenerator(2, 2, frequencies=128, frequency_scale=8.0, seed=seed)

    def _race(
        self, energy: nn.Module, sampler: _Sampler, density: GaussianMixture, seed: int
    ) -> tuple[dict[str, Any], Tensor]:
        """Time to the resampled generator's distance from fresh data, for it and for Langevin chains.

        The chains may start at a normal fitted to the data, or uniformly over the box that holds them, with any of the step
        sizes; the fastest counts. A chain that never comes so near counts with all of its steps.
        """
        n = self.compared
        truth = density.sample(n, generator=_source(seed + 10))

        def distance(x: Tensor) -> float:
            return sliced_wasserstein(x, truth, seed=seed, projections=_PROJECTIONS)

        seconds_alone, goal_alone = _timed(sampler.alone, n, seed + 100, distance)
        generator_seconds, goal = _timed(sampler.resampled, n, seed + 100, distance)
        normal = Gaussian.fit(truth).sample(n, generator=_source(seed + 13))
        uniform = _BOX * (2 * torch.rand(n, 2, generator=_source(seed + 14)) - 1)
        best: _Chain | None = None
        for start, rows in {"normal": normal, "uniform": uniform}.items():
            for step_size in self.langevin_step_sizes:
                limit = self.langevin_steps if best is None or not best.reached else best.steps
                chain = self._chain(
                    energy, rows, start, step_size, limit=limit, distance=distance, goal=goal, seed=seed
                )
                if best is None or chain.rank < best.rank:
                    best = chain
        assert best is not None
        figures = {
            "sliced_wasserstein": goal,
            "sliced_wasserstein_generator_alone": goal_alone,
            "sliced_wasserstein_langevin": best.distance,
            "sliced_wasserstein_data": distance(density.sample(n, generator=_source(seed + 11))),
            "sampling_seconds": generator_seconds,
            "sampling_seconds_generator_alone": seconds_alone,
            "langevin_seconds": best.seconds,
            "langevin_steps": best.steps,
            "langevin_start": best.start,
            "langevin_step_size": best.step_size,
            "langevin_reached": best.reached,
            "sampling_speedup": best.seconds / generator_seconds,
        }
        return figures, best.x

    def _chain(
        self,
        energy: nn.Module,
        x: Tensor,
        start: str,
        step_size: float,
        *,
        limit: int,
        distance: Callable[[Tensor], float],
        goal: float,
        seed: int,
    ) -> _Chain:
        """Until it is as near as ``goal``, for at most ``limit`` steps; looks are not timed."""
        source, seconds, done, here = _source(seed + 15), 0.0, 0, math.inf
        while done < limit and here > goal:
            began = time.perf_counter()
            x = langevin(energy, x, steps=self.check_every, step_size=step_size, generator=source)
            seconds += time.perf_counter() - began
            done += self.check_every
            here = distance(x)
        return _Chain(x, start, step_size, done, seconds, here, here <= goal)


@dataclass(frozen=True)
class _Chain:
    """Where a Langevin chain came to, and when."""

    x: Tensor
    start: str
    step_size: float
    steps: int
    seconds: float
    distance: float
    reached: bool

    @property
    def rank(self) -> tuple[bool, float]:
        """Least for the best: the first of those that arrived, else the nearest."""
        return not self.reached, self.seconds if self.reached else self.distance


@dataclass(frozen=True)
class _Sampler:
    """Draws in the data's units from an energy of standardised rows, by a generator fitted to it."""

    energy: Energy
    generator: LatentGenerator
    coordinates: Coordinates
    proposals: int

    @torch.no_grad()
    def alone(self, n: int, seed: int) -> Tensor:
        return self.coordinates.inverse(self.generator.sample(n, generator=_source(seed)).x)

    @torch.no_grad()
    def resampled(self, n: int, seed: int) -> Tensor:
        source, kept = _source(seed), self.proposals // 2
        parts = [
            resample(self.energy, self.generator, min(kept, n - done), proposals=self.proposals, generator=source).x
            for done in range(0, n, kept)
        ]
        return self.coordinates.inverse(torch.cat(parts))


def _timed(
    draw: Callable[[int, int], Tensor], n: int, seed: int, distance: Callable[[Tensor], float]
) -> tuple[float, float]:
    """Median seconds of ``draw`` and median distance, of nine."""
    draw(n, seed)  # warm
    times, distances = [], []
    for repeat in range(9):
        began = time.perf_counter()
        samples = draw(n, seed + repeat)
        times.append(time.perf_counter() - began)
        distances.append(distance(samples))
    return sorted(times)[4], sorted(distances)[4]


def _source(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
