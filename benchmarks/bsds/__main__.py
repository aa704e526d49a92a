"""Test log-likelihoods of natural image patches and four tables: densities, flows and energies, on one thread.

Every method sees the training rows, makes its choices by the validation rows, and is scored on the test rows once. Densities
are exact; an energy's log-likelihood comes with the bracket that its log Z leaves: importance sampling and annealing from a
mixture or a flow bound it from below, annealing back from validation rows that neither the proposal nor any choice has seen
from above.

Names of data sets as arguments run these alone and leave the file's figures of the others as they are; ``--quick`` only shows
that everything runs.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from benchmarks.common import RESULTS, one_thread
from chainfree.cli.tables import text_table
from chainfree.energies import Coordinates, Gaussian, Tilted
from chainfree.evaluation import estimate_log_z, log_likelihood
from chainfree.evaluation.estimate_log_z import LogZEstimate
from chainfree.experiments import Recorder
from chainfree.objectives import NoiseContrastive
from chainfree.typing import Density, Energy

from .data import DATASETS, Parts, Whitening
from .methods import (
    FlowSettings,
    MixtureSettings,
    Rows,
    Tilt,
    TiltSettings,
    denoising,
    energy_discrepancy,
    flows,
    kernel_density,
    mixtures,
    referenced_discrepancy,
)
from .networks import FlowReader

SEEDS = (0,)
PATCHES = "bsds300_patches8"
PUBLISHED = {"Gaussian": 96.7, "MAF (2017)": 154.9}  # of MAF's own sample of patches


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is run on a data set.

    Args:
        bandwidths, kernels, probed, kernel_test: candidates of kernel density estimation, rows it keeps, rows it chooses by,
            and test rows that it is scored on, if not all.
        normals: candidates for the Gaussian mixture.
        scaled: candidates for mixtures with several sizes, if any.
        spline_flows, affine_flows: candidates.
        contrast, other: settings of energies trained by NCE, and by ED and denoising.
        flow_contrast, flow_other: the same for energies tilted from the flow.
        discrepancy: range of the variances of energy discrepancy.
        denoising: scale of the noise.
        upper: validation rows that are held back for the upper bound.
        annealing, flow_annealing: of log Z.
    """

    bandwidths: tuple[float, ...]
    kernels: int
    probed: int
    kernel_test: int | None
    normals: MixtureSettings
    scaled: MixtureSettings | None
    spline_flows: tuple[FlowSettings, ...]
    affine_flows: tuple[FlowSettings, ...]
    contrast: TiltSettings
    other: TiltSettings
    flow_contrast: TiltSettings
    flow_other: TiltSettings
    discrepancy: tuple[float, float]
    denoising: float
    upper: int
    annealing: Mapping[str, int]
    flow_annealing: Mapping[str, int]


PLANS = {
    PATCHES: Plan(
        bandwidths=(0.2, 0.3, 0.4, 0.5, 0.7),
        kernels=20_000,
        probed=1000,
        kernel_test=5000,
        normals=MixtureSettings(candidates=((128, 1), (256, 1)), steps=50),
        scaled=MixtureSettings(candidates=((128, 8), (256, 8)), steps=120),
        spline_flows=(FlowSettings(kind="nsf", transforms=2, width=256, steps=4000),),
        affine_flows=(FlowSettings(kind="maf", transforms=5, width=256, steps=3000),),
        contrast=TiltSettings(steps=8000, lr=3e-3, bound=10.0),
        other=TiltSettings(steps=1500, batch=128, lr=1e-3, every=100, probes=5000),
        flow_contrast=TiltSettings(steps=1500, pool=20_000, lr=3e-3, probes=4000),
        flow_other=TiltSettings(steps=200, batch=64, lr=1e-3, every=100, probes=2000),
        discrepancy=(1e-4, 1e-1),
        denoising=0.02,
        upper=2000,
        annealing={"samples": 100_000, "chains": 1500, "temperatures": 40, "leapfrog": 3},
        flow_annealing={"samples": 10_000, "chains": 300, "temperatures": 40, "leapfrog": 3},
    ),
}
TABLE = Plan(
    bandwidths=(0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0),
    kernels=20_000,
    probed=2000,
    kernel_test=None,
    normals=MixtureSettings(candidates=((8, 1), (16, 1), (32, 1), (64, 1), (128, 1)), by_sklearn=True),
    scaled=None,
    spline_flows=(
        FlowSettings(kind="nsf", transforms=3, width=64, steps=1500),
        FlowSettings(kind="nsf", transforms=2, width=128, steps=1500),
    ),
    affine_flows=(FlowSettings(kind="maf", transforms=5, width=128, steps=1500),),
    contrast=TiltSettings(steps=2000, experts=128, width=128, lr=2e-3, weight_decay=0.1, every=100),
    other=TiltSettings(steps=800, batch=256, experts=128, width=128, lr=3e-4, every=100, probes=5000),
    flow_contrast=TiltSettings(
        steps=1200, experts=128, width=128, lr=2e-3, weight_decay=0.1, pool=12_000, every=100, probes=5000
    ),
    flow_other=TiltSettings(steps=400, batch=128, experts=128, width=128, lr=3e-4, every=100, probes=3000),
    discrepancy=(1e-4, 1e-1),
    denoising=0.02,
    upper=500,
    annealing={"samples": 50_000, "chains": 500, "temperatures": 40, "leapfrog": 3},
    flow_annealing={"samples": 20_000, "chains": 300, "temperatures": 30, "leapfrog": 3},
)


class Bench:
    """One data set: its rows in the models' coordinates, and what was found so far."""

    def __init__(self, parts: Parts, plan: Plan) -> None:
        self.parts, self.plan, self.started = parts, plan, time.perf_counter()
        whitened = parts.name == PATCHES
        self.space: Any = Whitening.fit(parts.train) if whitened else Coordinates.fit(parts.train)
        valid = self.space(parts.valid)
        self.rows = Rows(self.space(parts.train), valid[: -plan.upper])
        self.upper = valid[-plan.upper :]
        self.valid_shift = float(self.space.log_abs_det(parts.valid[: -plan.upper]).double().mean())
        self.figures: dict[str, dict[str, Any]] = {}
        self.choices: dict[str, Any] = {}

    def timed(self, name: str, fit: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        with threadpool_limits(1):
            fitted = fit()
        self.figures[name] = {"seconds": round(time.perf_counter() - started, 1)}
        print(f"{self.parts.name}, {name}: fitted in {self.figures[name]['seconds']:.0f} s", flush=True)
        return fitted

    def exact(self, name: str, density: Density, most: int | None = None) -> None:
        """Score a normalised density."""
        x = self.parts.test[:most]
        with torch.no_grad():
            found = torch.cat([density.log_prob(part) for part in self.space(x).split(4096)]).double()
        found += self.space.log_abs_det(x)
        mean, error = float(found.mean()), float(found.std() / len(found) ** 0.5)
        self._put(name, {"mean": mean, "low": mean, "high": mean, "standard_error": error})

    def bracketed(self, name: str, energy: Energy, proposal: Density, annealing: Mapping[str, int]) -> None:
        """Score an energy."""
        started = time.perf_counter()
        estimate = estimate_log_z(
            energy,
            proposal=proposal,
            rows=self.upper,
            on_disagreement="flag",
            generator=torch.Generator().manual_seed(3),
            **annealing,  # type: ignore[arg-type]
        )

        def in_units(x: Tensor) -> Tensor:
            values = torch.cat([energy(part) for part in self.space(x).split(4096)])
            return values.double() - self.space.log_abs_det(x)

        found = log_likelihood(in_units, self.parts.test, estimate)
        self._put(name, found._asdict() | _log_z(estimate))
        self.figures[name]["seconds_of_log_z"] = round(time.perf_counter() - started, 1)

    def _put(self, name: str, figures: Mapping[str, Any]) -> None:
        self.figures[name] = {**figures, **self.figures.get(name, {})}
        f = self.figures[name]
        print(f"{self.parts.name}, {name}: {f['mean']:.3f} in [{f['low']:.3f}, {f['high']:.3f}]", flush=True)


def _log_z(estimate: LogZEstimate) -> dict[str, Any]:
    return {
        "log_z": {"value": estimate.value, "low": estimate.low, "high": estimate.high},
        "effective_sample_sizes": estimate.effective_sample_sizes,
        "upper": estimate.upper,
        "complaints": list(estimate.complaints),
    }


def run(bench: Bench) -> None:
    """All methods: first everything is fitted and chosen, then scored."""
    rows, plan, shift = bench.rows, bench.plan, bench.valid_shift
    gaussian = bench.timed("Gaussian", lambda: Gaussian.fit(rows.train, shrinkage=0.0))
    kernels, by_bandwidth = bench.timed(
        "kernel density", lambda: kernel_density(rows, plan.bandwidths, plan.kernels, plan.probed)
    )
    fits, by_normals = bench.timed("Gaussian mixture", lambda: mixtures(rows, plan.normals))
    mixture = best = fits[0]
    bench.choices |= {"kernel density": _shifted(by_bandwidth, shift), "Gaussian mixture": _shifted(by_normals, shift)}
    scaled = None
    if plan.scaled is not None:
        settings = plan.scaled
        found, by_sizes = bench.timed("scale mixture", lambda: mixtures(rows, settings))
        best = scaled = found[0]
        bench.choices["scale mixture"] = _shifted(by_sizes, shift)
    name = "mixture" if scaled is None else "scale mixture"
    fitted_flows: dict[str, Any] = {}
    for label, candidates in {"spline flow": plan.spline_flows, "affine flow": plan.affine_flows}.items():
        fitted_flows[label], by_flow = bench.timed(label, lambda candidates=candidates: flows(rows, candidates))
        bench.choices[label] = _shifted(by_flow, shift)
    energies: dict[str, tuple[Energy | None, Density, Mapping[str, int]]] = {}  # none where the base itself was chosen

    def tilted(label: str, base: Density, settings: TiltSettings, fit: Callable[[Tilt], Tilted]) -> None:
        tilt = Tilt(base, FlowReader(spline, best) if base is spline else best, rows, settings)
        energy = bench.timed(label, lambda: fit(tilt))
        bench.choices[label] = {"valid": tilt.valid_log_likelihood + shift, "steps": tilt.steps}
        print(f"{bench.parts.name}, {label}: valid {bench.choices[label]['valid']:.3f}", flush=True)
        annealing = plan.annealing if base is best else plan.flow_annealing
        energies[label] = (energy if tilt.learned else None, base, annealing)

    spline = fitted_flows["spline flow"]
    discrepancy = energy_discrepancy(*plan.discrepancy)
    tilted(f"NCE, tilted {name}", best, plan.contrast, lambda t: t.by_contrast(best, NoiseContrastive))
    tilted(
        f"ED with reference, tilted {name}", best, plan.contrast, lambda t: t.by_contrast(best, referenced_discrepancy)
    )
    tilted(f"ED, tilted {name}", best, plan.other, lambda t: t.by(discrepancy))
    tilted(f"denoising, tilted {name}", best, plan.other, lambda t: t.by(denoising(plan.denoising)))
    tilted("NCE, tilted flow", spline, plan.flow_contrast, lambda t: t.by_contrast(spline, NoiseContrastive))
    tilted(
        "ED with reference, tilted flow",
        spline,
        plan.flow_contrast,
        lambda t: t.by_contrast(spline, referenced_discrepancy),
    )
    tilted("ED, tilted flow", spline, plan.flow_other, lambda t: t.by(discrepancy))

    # nothing is chosen below
    bench.exact("Gaussian", gaussian)
    bench.exact("kernel density", kernels, most=plan.kernel_test)
    bench.exact("Gaussian mixture", mixture)
    if scaled is not None:
        bench.exact("scale mixture", scaled)
    for label, fitted in fitted_flows.items():
        bench.exact(label, fitted)
    for label, (energy, given, annealing) in energies.items():
        if energy is None:
            bench.exact(label, given)
        else:
            bench.bracketed(label, energy, given, annealing)


def _shifted(scores: Mapping[str, float], shift: float) -> dict[str, float]:
    return {name: score + shift for name, score in scores.items()}


def _quick(plan: Plan) -> Plan:
    """A plan that shows that everything runs."""

    def short(settings: Any) -> Any:
        return replace(settings, steps=30)

    return replace(
        plan,
        normals=replace(plan.normals, candidates=plan.normals.candidates[:1], steps=5),
        scaled=plan.scaled and replace(plan.scaled, candidates=((8, 4),), steps=10),
        spline_flows=tuple(short(s) for s in plan.spline_flows),
        affine_flows=tuple(short(s) for s in plan.affine_flows),
        contrast=short(plan.contrast),
        other=short(plan.other),
        flow_contrast=replace(short(plan.flow_contrast), pool=min(1000, plan.flow_contrast.pool)),
        flow_other=replace(short(plan.flow_other), probes=500),
        annealing={"samples": 2000, "chains": 50, "temperatures": 5, "leapfrog": 2},
        flow_annealing={"samples": 1000, "chains": 50, "temperatures": 5, "leapfrog": 2},
    )


def main() -> None:
    one_thread()
    quick, named = "--quick" in sys.argv, [name for name in DATASETS if name in sys.argv]
    recorder = Recorder("bsds", "python -m benchmarks.bsds", RESULTS, SEEDS)
    benches: dict[str, Bench] = {}
    for name in named or DATASETS:
        plan = PLANS.get(name, TABLE)
        benches[name] = bench = Bench(DATASETS[name](), _quick(plan) if quick else plan)
        run(bench)
        if not quick:
            recorder.write(_figures(bench), packages=["zuko"])
    for name, bench in benches.items():
        print(f"\n{name}: {bench.parts.notes}")
        print(_table(bench))


def _figures(bench: Bench) -> dict[str, Any]:
    """Those of the file, with the data set's in place of what it said of it."""
    path, name = RESULTS / "bsds.json", bench.parts.name
    figures: dict[str, Any] = json.loads(path.read_text())["figures"] if path.exists() else {}
    if name == PATCHES:
        figures["log_likelihood"] = bench.figures
    else:
        figures.setdefault("tables", {})[name] = bench.figures
    found = {
        "chosen_by_validation": bench.choices,
        "rows": [len(bench.parts.train), len(bench.parts.valid), len(bench.parts.test)],
        "notes": bench.parts.notes,
        "settings": asdict(bench.plan),
        "seconds": round(time.perf_counter() - bench.started, 1),
    }
    for key, value in found.items():
        figures.setdefault(key, {})[name] = value
    return figures | {"published": PUBLISHED}


def _table(bench: Bench) -> str:
    header = ["method", "nats", "low", "high", "error", "ESS", "s"]
    return text_table(
        header,
        [
            [
                name,
                *(f"{found[key]:.3f}" for key in ("mean", "low", "high", "standard_error")),
                f"{found['effective_sample_sizes']['importance']:.0f}" if "log_z" in found else "-",
                f"{found['seconds']:.0f}",
            ]
            for name, found in bench.figures.items()
        ],
    )


if __name__ == "__main__":
    main()
