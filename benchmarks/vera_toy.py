"""VERA in the plane: the NLL gap with weighted negatives and in the paper's game, on one thread.

Both have the same energy network, generator, data, rounds, schedule, learning rate and number of negatives. The paper's game
has its own betas (0 and 0.9), gradient penalty (0.1) and entropy estimator; ours betas 0.5 and 0.99, no penalty, a bank,
weights, and a fifth of its negatives from a wide normal.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from benchmarks.common import RESULTS, one_thread
from chainfree import plotting
from chainfree.batches import batches
from chainfree.cli.tables import text_table
from chainfree.datasets import toy_density
from chainfree.energies import Coordinates, FourierMLP, Gaussian, InCoordinates, Tilted
from chainfree.engine import Engine, OptimizerSettings, TrainingDivergedError
from chainfree.engine.callbacks import Callback
from chainfree.entropy import ImportancePosterior, PriorBank
from chainfree.evaluation import LogZ, log_z_quadrature, nll_gap
from chainfree.experiments import Recorder
from chainfree.generators import ResidualGenerator
from chainfree.objectives import VERA, WeightedNegatives

SEEDS = (0, 1, 2)
DENSITIES = ("8gaussians", "moons", "rings", "unequal_mixture")
ROWS, ROUNDS, BATCH = 100_000, 3_000, 128
SAMPLES, WIDE = 256, 64  # of the generator and of the defensive density a round; the paper's game has as many in all
BOUNDS, POINTS = ((-14.0, 14.0), (-14.0, 14.0)), 901


@dataclass(frozen=True)
class Outcome:
    """How a run ended; the gap is ``None`` where it diverged or its energy has no finite log Z in the box."""

    gap: float | None
    weight_error: float | None
    seconds: float
    restarts: int
    energy: InCoordinates
    log_z: LogZ | None
    reason: str = ""


def ours() -> tuple[VERA, OptimizerSettings]:
    wide = Gaussian(torch.zeros(2), 1.5**2 * torch.eye(2))
    objective = VERA(
        ResidualGenerator(2, 2),
        entropy=PriorBank(),
        gradient_penalty=0.0,
        negatives=WeightedNegatives(defensive=wide),
        samples=SAMPLES,
    )
    return objective, OptimizerSettings(lr=1e-3, betas=(0.5, 0.99))


def papers() -> tuple[VERA, OptimizerSettings]:
    objective = VERA(
        ResidualGenerator(2, 2), entropy=ImportancePosterior(2), gradient_penalty=0.1, samples=SAMPLES + WIDE
    )
    return objective, OptimizerSettings(lr=1e-3, betas=(0.0, 0.9))


GAMES = {"weighted": ours, "paper": papers}


class Restarts(Callback):
    """Counts the guard's restarts."""

    def __init__(self) -> None:
        self.count = 0

    def on_event(self, engine: Engine, kind: str, message: str) -> None:
        """One more."""
        self.count += kind == "guard"


def run(name: str, game: str, seed: int) -> Outcome:
    density = toy_density(name)
    rows = density.sample(ROWS, generator=torch.Generator().manual_seed(1000 + seed))
    coordinates = Coordinates.fit(rows, heavy_tails=False)
    torch.manual_seed(seed)
    energy = Tilted(Gaussian(torch.zeros(2), torch.eye(2)), FourierMLP(2, seed=seed))
    objective, optimizer = GAMES[game]()
    restarts = Restarts()
    engine = Engine(energy, objective, seed=seed, optimizer=optimizer, ema=0.998, callbacks=[restarts])
    seconds, reason = 0.0, ""
    try:
        seconds = engine.fit(batches(coordinates(rows).float(), size=BATCH, seed=seed), steps=ROUNDS).seconds
    except TrainingDivergedError as error:
        reason = str(error)
    averaged = InCoordinates(engine.averaged_energy(), coordinates)
    log_z = None
    try:
        log_z = log_z_quadrature(averaged, BOUNDS, points=POINTS)
    except ValueError as error:
        reason = reason or str(error)
    if reason or log_z is None:
        return Outcome(None, None, seconds, restarts.count, averaged, log_z, reason)
    test = density.sample(20_000, generator=torch.Generator().manual_seed(20_000))
    gap = nll_gap(averaged, log_z.value, density, test)
    error = weight_error(averaged, log_z) if name == "unequal_mixture" else None
    return Outcome(gap, error, seconds, restarts.count, averaged, log_z)


def weight_error(energy: InCoordinates, log_z: LogZ) -> float:
    """Largest error of a quadrant's mass: the modes at (+-3, +-3) weigh 0.1, 0.2, 0.3 and 0.4."""
    truth = {(-1, -1): 0.1, (1, -1): 0.2, (-1, 1): 0.3, (1, 1): 0.4}
    sides = {-1: (BOUNDS[0][0], 0.0), 1: (0.0, BOUNDS[0][1])}
    axis = 301
    errors = []
    for (a, b), weight in truth.items():
        (left, right), (low, high) = sides[a], sides[b]
        x, y = torch.linspace(left, right, axis), torch.linspace(low, high, axis)
        with torch.no_grad():
            density = torch.exp(-energy(torch.cartesian_prod(x, y)).double() - log_z.value).view(axis, axis)
        errors.append(abs(float(torch.trapezoid(torch.trapezoid(density, y.double()), x.double())) - weight))
    return max(errors)


def main() -> None:
    one_thread()
    recorder = Recorder("vera_toy", "python -m benchmarks.vera_toy", RESULTS, SEEDS)
    found: dict[str, dict[str, list[Outcome]]] = {game: {name: [] for name in DENSITIES} for game in GAMES}
    for name in DENSITIES:
        for seed in SEEDS:
            for game in GAMES:
                outcome = run(name, game, seed)
                found[game][name].append(outcome)
                said = outcome.reason if outcome.gap is None else f"gap {outcome.gap:.4f}"
                print(f"{name}, {game}, seed {seed}: {said}, {outcome.seconds:.0f} s", flush=True)
    gaps = {game: {name: [o.gap for o in runs] for name, runs in rows.items()} for game, rows in found.items()}
    table = [
        [name, *(", ".join("none" if g is None else f"{g:.4f}" for g in gaps[game][name]) for game in GAMES)]
        for name in DENSITIES
    ]
    print(text_table(["density", *(f"NLL gap, {game}, by seed" for game in GAMES)], table))
    mine = [o for runs in found["weighted"].values() for o in runs]
    figures = {
        "worst_gap": _worst([o.gap for o in mine]),
        "gaps": {name: _worst(values) for name, values in gaps["weighted"].items()},
        "mixture_weight_error": _worst([o.weight_error for o in found["weighted"]["unequal_mixture"]]),
        "diverged": sum(o.gap is None or o.restarts > 0 for o in mine),
        "gaps_by_seed": gaps["weighted"],
        "paper_gaps_by_seed": gaps["paper"],
        "paper_diverged": sum(o.gap is None or o.restarts > 0 for runs in found["paper"].values() for o in runs),
        "seconds": max(o.seconds for o in mine),
        "paper_seconds": max(o.seconds for runs in found["paper"].values() for o in runs),
    }
    print(recorder.write(figures))
    shown = found["weighted"]["unequal_mixture"][0]
    if shown.log_z is not None:
        picture = plotting.density_beside_truth(
            shown.energy,
            shown.log_z.value,
            toy_density("unequal_mixture"),
            bounds=((-5.0, 5.0), (-5.0, 5.0)),
            title=f"Four unequal modes by VERA, {ROUNDS:,} rounds",
        )
        plotting.save(picture, RESULTS / "vera_toy.png")


def _worst(values: list[float | None]) -> float | None:
    return None if any(v is None for v in values) else max(v for v in values if v is not None)


if __name__ == "__main__":
    main()
