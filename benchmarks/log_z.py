"""Brackets on log Z from annealing there and back, against the known log Z of every analytic energy, on one thread.

As a user would with data: a base is fitted to some rows, the chains come back from others (rows that the base was fitted to
break the upper bound). One base is a mixture of normals whose kind and number of components have the best likelihood on
held-out rows, the other a single normal. Where a bracket is wider than half a nat, it is run anew with four times the
temperatures, once. The rows are exact draws, so that the upper bound is one.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from sklearn.mixture import GaussianMixture as FittedMixture
from threadpoolctl import threadpool_limits  # scikit-learn brings it
from torch import Tensor

from benchmarks.common import RESULTS, one_thread
from chainfree.cli.tables import text_table
from chainfree.energies import AnalyticEnergy, Banana, DoubleWell, Funnel, Gaussian, GaussianMixture, Ring
from chainfree.evaluation import LogZ, ais, annealing_schedule, log_z_importance, reverse_ais
from chainfree.evaluation.log_z import bound_margin
from chainfree.experiments import Recorder

SEEDS = (0, 1, 2)
DIMS = (2, 10, 50)
FITTED, HELD_OUT, CHAINS = 4000, 1000, 1000
TEMPERATURES, MORE, WIDE = 100, 4, 0.5
IMPORTANCE_SAMPLES = 20_000
COMPONENTS = (("full", 1), ("full", 2), ("full", 4), ("diag", 8), ("diag", 16))
BASES = ("mixture", "normal")


def energies(dim: int, seed: int) -> dict[str, AnalyticEnergy]:
    """Those there are in so many dimensions; the covariance is another one for each seed."""
    generator = torch.Generator().manual_seed(1000 * dim + seed)
    axes = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))[0]
    covariance = axes * torch.logspace(-1, 1, dim, dtype=torch.float64) @ axes.T
    means = torch.zeros(4, dim)
    means[:, :2] = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 3.0], [0.0, -3.0]])
    found: dict[str, AnalyticEnergy] = {
        "gaussian": Gaussian(torch.ones(dim), (covariance + covariance.T) / 2),
        "mixture": GaussianMixture(means, 0.5, weights=[0.1, 0.2, 0.3, 0.4]),
        "banana": Banana(dim),
        "funnel, scale 1": Funnel(dim, scale=1.0),
        "funnel, scale 3": Funnel(dim, scale=3.0),
        "double well": DoubleWell(dim),
    }
    return found | ({"ring": Ring()} if dim == 2 else {})


@dataclass(frozen=True)
class Bracket:
    """One run; errors and effective sample sizes are those of the bounds."""

    seed: int
    truth: float
    low: float
    high: float
    lower: float
    lower_error: float
    lower_ess: float
    upper: float
    upper_error: float
    upper_ess: float
    importance: float
    importance_ess: float
    temperatures: int
    seconds: float

    @property
    def holds(self) -> bool:
        return self.low <= self.truth <= self.high

    @property
    def width(self) -> float:
        return self.high - self.low


def fitted_base(kind: str, rows: Tensor, seed: int) -> AnalyticEnergy:
    if kind == "normal":
        return Gaussian.fit(rows)
    train, rest = rows[:-HELD_OUT].double().numpy(), rows[-HELD_OUT:].double().numpy()
    fits = [
        FittedMixture(count, covariance_type=kind, reg_covar=1e-4, max_iter=500, random_state=seed).fit(train)
        for kind, count in COMPONENTS
    ]
    return GaussianMixture.from_sklearn(max(fits, key=lambda fit: fit.score(rest)))


def bracket(energy: AnalyticEnergy, base: AnalyticEnergy, seed: int) -> Bracket:
    started = time.perf_counter()
    generator = torch.Generator().manual_seed(2000 + seed)
    temperatures = TEMPERATURES
    while True:
        schedule = annealing_schedule(energy, base, temperatures=temperatures, generator=generator)
        lower = ais(energy, base, schedule=schedule, chains=CHAINS, resample_below=0.5, generator=generator).log_z
        rows = energy.sample(CHAINS, generator=generator)
        upper = reverse_ais(energy, base, rows, schedule=schedule, resample_below=0.5, generator=generator).log_z
        low, high = lower.value - bound_margin(lower), upper.value + bound_margin(upper)
        if high - low <= WIDE or temperatures > TEMPERATURES:
            break
        temperatures *= MORE
    seconds = time.perf_counter() - started
    plain: LogZ = log_z_importance(energy, base, samples=IMPORTANCE_SAMPLES, generator=generator)
    return Bracket(
        seed=seed,
        truth=energy.log_z,
        low=low,
        high=high,
        lower=lower.value,
        lower_error=lower.standard_error,
        lower_ess=lower.effective_sample_size,
        upper=upper.value,
        upper_error=upper.standard_error,
        upper_ess=upper.effective_sample_size,
        importance=plain.value,
        importance_ess=plain.effective_sample_size,
        temperatures=temperatures,
        seconds=round(seconds, 2),
    )


Runs = dict[str, dict[str, list[Bracket]]]


def summary(runs: Runs) -> dict[str, Any]:
    brackets = [b for dims in runs.values() for found in dims.values() for b in found]
    return {
        "bracket_holds": {
            name: {d: all(b.holds for b in found) for d, found in dims.items()} for name, dims in runs.items()
        },
        "bracket_width": {
            name: {d: max(b.width for b in found) for d, found in dims.items()} for name, dims in runs.items()
        },
        "share_that_holds": sum(b.holds for b in brackets) / len(brackets),
        "share_below_half_a_nat": sum(b.width <= WIDE for b in brackets) / len(brackets),
        "widest": max(b.width for b in brackets),
        "seconds": sum(b.seconds for b in brackets),
        "runs": {name: {d: [asdict(b) for b in found] for d, found in dims.items()} for name, dims in runs.items()},
    }


def main() -> None:
    one_thread()
    recorder = Recorder("log_z", "python -m benchmarks.log_z", RESULTS, SEEDS)
    runs: dict[str, Runs] = {base: {} for base in BASES}
    for dim in DIMS:
        for seed in SEEDS:
            for name, energy in energies(dim, seed).items():
                rows = energy.sample(FITTED + HELD_OUT, generator=torch.Generator().manual_seed(seed))
                for kind in BASES:
                    with threadpool_limits(1):
                        base = fitted_base(kind, rows, seed)
                    found = bracket(energy, base, seed)
                    runs[kind].setdefault(name, {}).setdefault(str(dim), []).append(found)
                    print(
                        f"{name}, {dim} dimensions, base {kind}, seed {seed}: [{found.low - found.truth:+.3f}, "
                        f"{found.high - found.truth:+.3f}] about the truth, {found.temperatures} temperatures, "
                        f"{found.seconds:.1f} s",
                        flush=True,
                    )
    table = [
        [
            name,
            dim,
            kind,
            str(sum(b.holds for b in found)) + f" of {len(found)}",
            f"{max(b.width for b in found):.3f}",
            f"{min(b.lower - b.truth for b in found):+.3f}",
            f"{max(b.upper - b.truth for b in found):+.3f}",
            f"{min(b.importance - b.truth for b in found):+.3f}",
            f"{min(b.importance_ess for b in found):.0f}",
            f"{max(b.seconds for b in found):.1f}",
        ]
        for name in runs["mixture"]
        for dim in runs["mixture"][name]
        for kind in BASES
        for found in [runs[kind][name][dim]]
    ]
    header = ["energy", "D", "base", "holds", "width", "lower", "upper", "importance", "its ESS", "s"]
    print(text_table(header, table))
    figures = summary(runs["mixture"]) | {"normal_base": summary(runs["normal"])}
    print(recorder.write(figures))


if __name__ == "__main__":
    main()
