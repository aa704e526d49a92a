"""Samplers side by side: effective draws a second at equal chains, target, step size and leapfrog steps, and what is biased.

Three libraries sample the very same energy module by autograd, from the same exact draws, and record every state; only
the code around the gradient differs. chainfree runs through `run`, TorchEBM through `sample(return_trajectory=True)` of
its samplers with a `BaseModel` around the energy, ebmkit through `sample(..., return_trajectory=True)`. What they are,
read from their code: TorchEBM's Langevin steps are unadjusted, its HMC is adjusted and takes two gradients for each
leapfrog step and two more energies a trajectory; it has no MALA. ebmkit's Langevin steps and its underdamped ones are
unadjusted, its MALA and HMC are adjusted and evaluate the start of each step anew; its tempering runs temperatures one
after another. A step of chainfree's h is one of h/2 in the other two.

Segments of the libraries alternate, so that a slower minute of the machine hits all of them; ratios are medians over
segments. One thread, but for the 10,000 chains, which have two that sleep while they wait: `OMP_WAIT_POLICY=PASSIVE`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

# read when torch is loaded: threads that wait for each other in a loop, the default, take the core from the one they wait for
# where anything else runs, and two threads then take forty times as long as one
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import ebm.samplers
import torch
import torchebm.core
import torchebm.samplers
from torch import Tensor

from benchmarks.common import RESULTS, median
from chainfree.cli.tables import text_table
from chainfree.energies import AnalyticEnergy, Banana, Funnel, Gaussian, GaussianMixture
from chainfree.experiments import Recorder
from chainfree.samplers import (
    Kernel,
    MinusEnergy,
    effective_sample_size,
    hmc,
    mala,
    run,
    tempering,
    ula,
    underdamped,
    warm_up,
)

SEEDS = (0, 1, 2, 3, 4)
CHAINS, LEAPFROG = 4000, 8
MANY_CHAINS, TRAJECTORIES, MANY_THREADS = 10_000, 1000, 2
BETAS = (1.0, 0.6, 0.36)
DRAWS = {"ula": 150, "mala": 150, "hmc": 40, "underdamped": 150, "underdamped, unadjusted": 150, "tempering": 20}
BIASED = ("ula", "underdamped, unadjusted")  # in every library that has them
FRICTION = 1.0

Drawn = Callable[[Tensor, int, torch.Generator], Tensor]  # start, draws, source -> (draws, chains, dim)


def ring_of_modes() -> GaussianMixture:
    """Eight normals around a circle, each within reach of its neighbours."""
    angle = torch.arange(8) * (torch.pi / 4)
    return GaussianMixture(2 * torch.stack([angle.cos(), angle.sin()], dim=1), 0.3)


def targets() -> dict[str, tuple[AnalyticEnergy, float]]:
    """Energies with the step of the leapfrog on them; Langevin steps are its squares."""
    correlated = torch.tensor([[1.0, 0.8], [0.8, 1.0]])
    return {"mixture": (ring_of_modes(), 0.4), "gaussian": (Gaussian(torch.zeros(2), correlated), 0.45)}


class Wrapped(torchebm.core.BaseModel):
    """The energy as TorchEBM wants it."""

    def __init__(self, energy: AnalyticEnergy) -> None:
        super().__init__()
        self.energy = energy

    def forward(self, x: Tensor) -> Tensor:
        value: Tensor = self.energy(x)
        return value


def ours(energy: AnalyticEnergy, step: float) -> dict[str, Drawn]:
    log_density = MinusEnergy(energy)

    def drawn(kernel: Kernel[Any], size: float, x: Tensor, draws: int, source: torch.Generator) -> Tensor:
        return run(kernel, x, draws=draws, warmup=0, step_size=size, generator=source).draws

    return {
        "ula": partial(drawn, ula.kernel(log_density), step**2),
        "mala": partial(drawn, mala.kernel(log_density), step**2),
        "hmc": partial(drawn, hmc.kernel(log_density, leapfrog=LEAPFROG), step),
        "underdamped": partial(drawn, underdamped.kernel(log_density, friction=FRICTION), step),
        "underdamped, unadjusted": partial(
            drawn, underdamped.kernel(log_density, friction=FRICTION, adjusted=False), step
        ),
        "tempering": partial(drawn, tempering.kernel(log_density, betas=BETAS, leapfrog=LEAPFROG), step),
    }


def of_torchebm(energy: AnalyticEnergy, step: float) -> dict[str, Drawn]:
    model = Wrapped(energy)

    def drawn(sampler: Any, x: Tensor, draws: int, source: torch.Generator) -> Tensor:
        path: Tensor = sampler.sample(x=x, n_steps=draws, return_trajectory=True, generator=source)
        return path.transpose(0, 1)

    langevin = torchebm.samplers.LangevinDynamics(model, step_size=step**2 / 2)
    trajectories = torchebm.samplers.HamiltonianMonteCarlo(model, step_size=step, n_leapfrog_steps=LEAPFROG)
    return {"ula": partial(drawn, langevin), "hmc": partial(drawn, trajectories)}


def of_ebmkit(energy: AnalyticEnergy, step: float) -> dict[str, Drawn]:
    def drawn(sampler: Any, x: Tensor, draws: int, source: torch.Generator) -> Tensor:
        torch.manual_seed(1000 + source.initial_seed())  # it draws from the global generator
        path: Tensor = sampler.sample(energy, x, steps=draws, return_trajectory=True)
        return path[1:]

    library = ebm.samplers
    trajectories = library.HMC(step_size=step, leapfrog_steps=LEAPFROG)
    return {
        "ula": partial(drawn, library.LangevinDynamics(step_size=step**2 / 2)),
        "mala": partial(drawn, library.MALA(step_size=step**2 / 2)),
        "hmc": partial(drawn, trajectories),
        "underdamped, unadjusted": partial(drawn, library.UnderdampedLangevin(step_size=step, friction=FRICTION)),
        "tempering": partial(
            drawn,
            library.ParallelTempering(
                library.HMC(step_size=step, leapfrog_steps=LEAPFROG), temperatures=tuple(1 / beta for beta in BETAS)
            ),
        ),
    }


LIBRARIES = {"chainfree": ours, "torchebm": of_torchebm, "ebmkit": of_ebmkit}


def moment_error(draws: Tensor, exact: Tensor) -> float:
    """The worst of first and second moments, in standard errors over chains and exact draws."""

    def moments(x: Tensor) -> Tensor:
        return torch.cat([x, x.square(), x[..., :1] * x[..., 1:]], dim=-1).double()

    chains, truth = moments(draws).mean(0), moments(exact)
    error = (chains.var(0) / len(chains) + truth.var(0) / len(truth)).sqrt()
    return float(((chains.mean(0) - truth.mean(0)) / error).abs().max())


def side_by_side(name: str, energy: AnalyticEnergy, step: float) -> dict[str, Any]:
    """Effective draws a second of every library and sampler on one target."""
    makers = {library: make(energy, step) for library, make in LIBRARIES.items()}
    exact = energy.sample(1_000_000, generator=torch.Generator().manual_seed(99))
    rates: dict[str, dict[str, list[float]]] = {library: {s: [] for s in made} for library, made in makers.items()}
    errors: dict[str, dict[str, list[float]]] = {library: {s: [] for s in made} for library, made in makers.items()}
    order = list(makers)
    for turn, seed in enumerate(SEEDS):
        for sampler, draws in DRAWS.items():
            for library in order[turn % len(order) :] + order[: turn % len(order)]:
                if sampler not in makers[library]:
                    continue
                source = torch.Generator().manual_seed(seed)
                start = energy.sample(CHAINS, generator=source)
                draw = makers[library][sampler]
                draw(start, 3, source)  # warm caches
                started = time.perf_counter()
                drawn = draw(start, draws, source)
                seconds = time.perf_counter() - started
                rates[library][sampler].append(float(effective_sample_size(drawn).min()) / seconds)
                errors[library][sampler].append(moment_error(drawn, exact))
    print(
        text_table(
            [name, "library", "effective draws/s", "worst moment, standard errors"],
            [
                [sampler, library, f"{median(values):,.0f}", f"{median(errors[library][sampler]):.1f}"]
                for library, found in rates.items()
                for sampler, values in found.items()
            ],
        ),
        flush=True,
    )
    return {
        "ess_per_s": {library: {s: median(v) for s, v in found.items()} for library, found in rates.items()},
        "ratio": {
            library: {
                sampler: median([a / b for a, b in zip(rates["chainfree"][sampler], values, strict=True)])
                for sampler, values in found.items()
            }
            for library, found in rates.items()
            if library != "chainfree"
        },
        "moment_error": {library: {s: median(v) for s, v in found.items()} for library, found in errors.items()},
    }


def many_chains(threads: int) -> dict[str, float]:
    """Seconds of the trajectories of the many chains, with the mean acceptance."""
    torch.set_num_threads(threads)
    energy = ring_of_modes()
    source = torch.Generator().manual_seed(0)

    log_density = MinusEnergy(energy)
    state = hmc.init(log_density, energy.sample(MANY_CHAINS, generator=source))
    acceptance = torch.zeros(())
    started = time.perf_counter()
    for _ in range(TRAJECTORIES):
        state, info = hmc.step(log_density, state, step_size=0.4, leapfrog=LEAPFROG, generator=source)
        acceptance += info.acceptance.mean()
    seconds = time.perf_counter() - started
    torch.set_num_threads(1)
    print(
        f"{MANY_CHAINS} chains, {TRAJECTORIES} trajectories of {LEAPFROG} steps, {threads} threads: {seconds:.1f} s",
        flush=True,
    )
    return {"seconds": seconds, "acceptance": float(acceptance / TRAJECTORIES)}


def acceptance_errors() -> dict[str, float]:
    """How far the acceptance is from the one that warm-up aims at."""
    shapes: dict[str, AnalyticEnergy] = {
        "banana": Banana(2),
        "funnel": Funnel(2, scale=1.0),
        "mixture": ring_of_modes(),
    }
    errors: dict[str, float] = {}
    for name, energy in shapes.items():
        log_density = MinusEnergy(energy)
        kernels: dict[str, Kernel[Any]] = {
            "mala": mala.kernel(log_density),
            "hmc": hmc.kernel(log_density, leapfrog=LEAPFROG, jitter=0.3),
        }
        for sampler, kernel in kernels.items():
            found = []
            for seed in SEEDS:
                source = torch.Generator().manual_seed(seed)
                x = torch.randn(CHAINS, 2, generator=source)
                ready = warm_up(kernel, x, steps=200, step_size=0.1, generator=source)
                state, total = ready.state, torch.zeros(())
                for _ in range(100):
                    state, info = kernel.step(state, step_size=ready.step_size, scales=ready.scales, generator=source)
                    total += info.acceptance.mean()
                assert kernel.target is not None
                found.append(abs(float(total / 100) - kernel.target))
            errors[f"{sampler}, {name}"] = max(found)
    return errors


def main() -> None:
    torch.set_num_threads(1)
    recorder = Recorder("samplers", "python -m benchmarks.samplers", RESULTS, SEEDS)
    large, alone = many_chains(MANY_THREADS), many_chains(1)
    compared = {name: side_by_side(name, energy, step) for name, (energy, step) in targets().items()}
    errors = acceptance_errors()
    figures = {
        "hmc_10k_chains_s": large["seconds"],
        "hmc_10k_chains_threads": MANY_THREADS,
        "hmc_10k_chains_one_thread_s": alone["seconds"],
        "hmc_10k_chains_acceptance": large["acceptance"],
        "ess_per_s": compared["mixture"]["ess_per_s"],
        "ess_ratio": compared["mixture"]["ratio"],
        "moment_error": compared["mixture"]["moment_error"],
        "gaussian": compared["gaussian"],
        "biased": list(BIASED),
        "acceptance_error": max(errors.values()),
        "acceptance_errors": errors,
        "chains": CHAINS,
        "leapfrog": LEAPFROG,
    }
    print(json.dumps(figures, indent=2))
    print(recorder.write(figures, packages=("torchebm", "ebmkit", "arviz")))


if __name__ == "__main__":
    main()
