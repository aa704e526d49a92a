"""Test log-likelihoods of natural image patches and four tables: densities, flows and energies, on one thread.

Every method sees the training rows, makes its choices by the validation rows, and is scored on the test rows. Densities are
exact; an energy's log-likelihood comes with the bracket that its log Z leaves: importance sampling and annealing from its
base bound it from below, annealing back from the ends of these chains, resampled by their weights, from above. The latter
is a bound as far as the chains have found all that the energy has; a tilt that is bounded cannot hide much from its base.

Standard errors are over rows, for these very images: parts of other images differ by more, so methods are also compared row
by row. Names of data sets as arguments run these alone and leave the file's figures of the others as they are, with the
commits that they were made at; ``--quick`` only shows that everything runs.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from benchmarks.common import RESULTS, one_thread
from chainfree.cli.tables import text_table
from chainfree.energies import Coordinates, Gaussian
from chainfree.evaluation import estimate_log_z, log_likelihood
from chainfree.evaluation.estimate_log_z import LogZEstimate
from chainfree.experiments import Recorder
from chainfree.experiments.record import commit
from chainfree.objectives import NoiseContrastive
from chainfree.typing import Density, Energy

from .data import DATASETS, Parts, Whitening
from .methods import (
    Rows,
    Tilt,
    TiltSettings,
    denoising,
    energy_discrepancy,
    flows,
    kernel_density,
    mixtures,
    ranking,
)
from .networks import FlowReader
from .plans import PATCHES, PLANS, TABLE, Plan, quickened

SEEDS = (0,)
PUBLISHED = {
    "Gaussian": 96.7,
    "MAF(10)": 154.9,
    "MAF MoG": 156.4,
}  # Papamakarios et al., 2017, as remembered, on another sample of patches
COMPARED = "spline flow"


class Bench:
    """One data set: its rows in the models' coordinates, and what was found so far."""

    def __init__(self, parts: Parts, plan: Plan) -> None:
        self.parts, self.plan, self.started = parts, plan, time.perf_counter()
        whitened = parts.name == PATCHES
        self.space: Any = Whitening.fit(parts.train) if whitened else Coordinates.fit(parts.train)
        self.rows = Rows(self.space(parts.train), self.space(parts.valid))
        self.valid_shift = float(self.space.log_abs_det(parts.valid).double().mean())
        self.figures: dict[str, dict[str, Any]] = {}
        self.choices: dict[str, Any] = {}
        self.by_row: dict[str, Tensor] = {}

    def timed(self, name: str, fit: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        with threadpool_limits(1):
            fitted = fit()
        self.figures[name] = {"seconds": round(time.perf_counter() - started, 1)}
        print(f"{self.parts.name}, {name}: fitted in {self.figures[name]['seconds']:.0f} s", flush=True)
        return fitted

    @torch.no_grad()
    def exact(self, name: str, density: Density) -> None:
        """Score a normalised density."""
        x = self.parts.test
        found = torch.cat([density.log_prob(part) for part in self.space(x).split(4096)]).double()
        found += self.space.log_abs_det(x)
        mean, error = float(found.mean()), float(found.std() / len(found) ** 0.5)
        middle = {"median": float(found.median())} if error > abs(mean) / 2 else {}  # a few rows decide the mean
        self._put(name, {"mean": mean, "low": mean, "high": mean, "standard_error": error, **middle}, found)

    def bracketed(self, name: str, energy: Energy, proposal: Density, annealing: Mapping[str, int]) -> None:
        """Score an energy."""
        started = time.perf_counter()
        estimate = estimate_log_z(
            energy,
            proposal=proposal,
            on_disagreement="flag",
            generator=torch.Generator().manual_seed(3),
            **annealing,  # type: ignore[arg-type]
        )

        x = self.parts.test
        with torch.no_grad():
            values = torch.cat([energy(part) for part in self.space(x).split(4096)]).double()
        values -= self.space.log_abs_det(x)
        found = log_likelihood(lambda index: values[index.long()], torch.arange(len(x)), estimate)
        self._put(name, found._asdict() | _log_z(estimate), -values - estimate.value)
        self.figures[name]["seconds_of_log_z"] = round(time.perf_counter() - started, 1)

    def _put(self, name: str, figures: Mapping[str, Any], by_row: Tensor) -> None:
        self.figures[name] = {**figures, **self.figures.get(name, {})}
        self.by_row[name] = by_row
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

    def tilted(label: str, base: Density, settings: TiltSettings, fits: Mapping[str, Callable[[Tilt], None]]) -> None:
        reader = FlowReader(spline, best) if base is spline else best
        tilts = {name: Tilt(base, reader, rows, settings) for name in fits}

        def fit() -> None:
            for name, tilt in tilts.items():
                fits[name](tilt)

        bench.timed(label, fit)
        bench.choices[label] = {
            name: {"valid": tilt.valid_log_likelihood + shift, "untrained": tilt.untrained + shift, "steps": tilt.steps}
            for name, tilt in tilts.items()
        }
        print(f"{bench.parts.name}, {label}: {bench.choices[label]}", flush=True)
        tilt = max(tilts.values(), key=lambda tilt: tilt.valid_log_likelihood)
        bench.figures[label]["learned"] = tilt.learned
        annealing = plan.annealing if base is best else plan.flow_annealing
        energies[label] = (tilt.energy if tilt.learned else None, base, annealing)

    spline = fitted_flows["spline flow"]
    for base, of, contrast, other in (
        (best, name, plan.contrast, plan.other),
        (spline, "flow", plan.flow_contrast, plan.flow_other),
    ):
        tilted(f"NCE, tilted {of}", base, contrast, {"": lambda t, base=base: t.by_contrast(base, NoiseContrastive)})
        tilted(f"ranking NCE, tilted {of}", base, contrast, {"": lambda t, base=base: t.by_contrast(base, ranking)})
        tilted(
            f"ED, tilted {of}",
            base,
            other,
            {
                f"t {t}, lr {lr}": lambda tilt, t=t, lr=lr: tilt.by(energy_discrepancy(*t), lr)
                for t in plan.discrepancy
                for lr in plan.other_rates
            },
        )
    tilted(
        f"denoising, tilted {name}",
        best,
        plan.other,
        {
            f"scale {scale}, lr {lr}": lambda tilt, scale=scale, lr=lr: tilt.by(denoising(scale), lr)
            for scale in plan.denoising
            for lr in plan.other_rates
        },
    )

    # nothing is chosen below
    bench.exact("Gaussian", gaussian)
    bench.exact("kernel density", kernels)
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
    for label, found in bench.figures.items():
        ahead = bench.by_row[label] - bench.by_row[COMPARED]
        found[f"ahead_of_{COMPARED}"] = {
            "mean": float(ahead.mean()),
            "standard_error": float(ahead.std() / len(ahead) ** 0.5),
        }


def _shifted(scores: Mapping[str, float], shift: float) -> dict[str, float]:
    return {name: score + shift for name, score in scores.items()}


def main() -> None:
    one_thread()
    quick, named = "--quick" in sys.argv, [name for name in DATASETS if name in sys.argv]
    recorder = Recorder("bsds", "python -m benchmarks.bsds", RESULTS, SEEDS)
    benches: dict[str, Bench] = {}
    for name in named or DATASETS:
        plan = PLANS.get(name, TABLE)
        benches[name] = bench = Bench(DATASETS[name](), quickened(plan) if quick else plan)
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
        "made_at": {"commit": commit(), "seconds": round(time.perf_counter() - bench.started, 1)},
    }
    for key, value in found.items():
        figures.setdefault(key, {})[name] = value
    return figures | {"published": PUBLISHED}


def _table(bench: Bench) -> str:
    header = ["method", "nats", "low", "high", "error", "ESS", "s", ""]
    return text_table(
        header,
        [
            [
                name,
                *(f"{found[key]:.3f}" for key in ("mean", "low", "high", "standard_error")),
                f"{found['effective_sample_sizes']['importance']:.0f}" if "log_z" in found else "-",
                f"{found['seconds']:.0f}",
                _remark(found),
            ]
            for name, found in bench.figures.items()
        ],
    )


def _remark(found: Mapping[str, Any]) -> str:
    if not found.get("learned", True):
        return "learnt nothing: the base"
    return f"bracket not to be trusted: {len(found['complaints'])} complaints" if found.get("complaints") else ""


if __name__ == "__main__":
    main()
