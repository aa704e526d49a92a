"""Energy discrepancy on 25 Gaussians: the paper's recipe and ours, in one run on one thread.

The paper's recipe takes 50,000 steps; its rate is measured in segments between our seeds' runs, and its time is steps over
rate; at the end one seed of it is trained to its last step and scored. Our recipe trains to its end for every seed. The
step rate is compared with ebmkit's at equal network, batch and M, in alternating segments.
"""

from __future__ import annotations

import json
import time
from typing import Any

import torch
from ebm.losses.energy_discrepancy import EnergyDiscrepancy as EbmkitDiscrepancy
from ebm.training import Trainer as EbmkitTrainer

from benchmarks.common import RESULTS, Trained, median, one_thread, settings_from, train
from chainfree import plotting
from chainfree.batches import batches
from chainfree.cli.models import Model, fitted_model
from chainfree.cli.report import evaluate_run
from chainfree.cli.sources import load_source
from chainfree.cli.tables import text_table
from chainfree.cli.train import engine_for, stream_for
from chainfree.datasets import toy_density
from chainfree.energies import MLP
from chainfree.engine import Constant, Engine
from chainfree.experiments import Recorder
from chainfree.losses import EnergyDiscrepancy

SEEDS = (0, 1, 2)
PAPER_STEPS = 50_000
SEGMENT = 400
SEGMENTS_BEFORE_A_SEED = 3
EBMKIT_SEGMENTS = 12
WARM_UP = 600  # enough for the weights to leave their initial values, where arithmetic is unusually fast


class PaperRecipe:
    """The paper's recipe, trained on in segments."""

    def __init__(self) -> None:
        self._settings = settings_from("recipes/ed_25gaussians/paper.toml")
        self._source = load_source(self._settings)
        model = fitted_model(self._settings, self._source.train, self._source.columns)
        self._engine = engine_for(self._settings, self._source, model, run=None)
        self._stream = stream_for(self._settings, self._source, model)
        self._steps = WARM_UP
        self._engine.fit(self._stream, steps=WARM_UP)

    def rate(self) -> float:
        """Steps a second over one segment."""
        self._steps += SEGMENT
        return SEGMENT / self._engine.fit(self._stream, steps=self._steps).seconds

    def scores(self) -> dict[str, Any]:
        """What the recipe reaches at its end, from where the segments left it."""
        self._engine.fit(self._stream, steps=PAPER_STEPS)
        found = evaluate_run(self._settings, self._source, Model(self._engine.averaged_energy(), None))
        # without a base the energy need not be integrable; the reason then stands in place of the scores
        return {key: found[key] for key in ("mse_log_density", "nll_gap", "no_log_z") if key in found}


def ebmkit_ratio() -> tuple[float, float, float]:
    """Our steps a second, ebmkit's, and the median of their ratios over alternating segments."""
    rows = toy_density("25gaussians").sample(100_000, generator=torch.Generator().manual_seed(0))

    def network() -> MLP:
        torch.manual_seed(0)
        return MLP(2, width=128, depth=4, activation="softplus")

    theirs = EbmkitTrainer(network(), EbmkitDiscrepancy(1.0, 4, 1.0), lr=1e-3, ema_decay=0.999, device="cpu")
    ours = Engine(network(), EnergyDiscrepancy(draws=4), schedule=Constant(), ema=0.999)
    stream, done, rates = batches(rows, size=128), WARM_UP, []
    theirs.fit(rows, steps=WARM_UP, batch_size=128, verbose=False)
    ours.fit(stream, steps=WARM_UP)
    for _ in range(EBMKIT_SEGMENTS):
        started = time.perf_counter()
        theirs.fit(rows, steps=SEGMENT, batch_size=128, verbose=False)
        their_rate = SEGMENT / (time.perf_counter() - started)
        done += SEGMENT
        rates.append((SEGMENT / ours.fit(stream, steps=done).seconds, their_rate))
    return median([r[0] for r in rates]), median([r[1] for r in rates]), median([a / b for a, b in rates])


def main() -> None:
    one_thread()
    recorder = Recorder("ed_25gaussians", "python -m benchmarks.ed_25gaussians", RESULTS, SEEDS)
    paper = PaperRecipe()
    paper_rates: list[float] = []
    runs: list[Trained] = []
    for seed in SEEDS:
        paper_rates += [paper.rate() for _ in range(SEGMENTS_BEFORE_A_SEED)]
        runs.append(train(settings_from("recipes/ed_25gaussians/ours.toml", seed=seed)))
    scores = [run.scores() for run in runs]
    paper_rate = median(paper_rates)
    paper_seconds = PAPER_STEPS / paper_rate
    slowest = max(run.seconds for run in runs)
    ours, theirs, ratio = ebmkit_ratio()
    paper_scores = paper.scores()
    table = [
        [f"seed {seed}", f"{s['mse_log_density']:.4f}", f"{s['nll_gap']:.4f}", f"{run.seconds:.2f}"]
        for seed, s, run in zip(SEEDS, scores, runs, strict=True)
    ]
    print(text_table(["ours", "MSE of log-density", "NLL gap (nats)", "seconds"], table))
    print(f"\npaper's recipe: {paper_rate:.0f} steps a second, {paper_seconds:.0f} s for {PAPER_STEPS:,} steps")
    print(f"paper's recipe at its end, one seed: {paper_scores}")
    print(f"speed-up of our slowest seed: {paper_seconds / slowest:.1f}")
    print(f"equal network, batch, M: ours {ours:.0f}, ebmkit {theirs:.0f} steps a second, ratio {ratio:.2f}")
    figures = {
        "mse_log_density": max(s["mse_log_density"] for s in scores),
        "nll_gap": max(s["nll_gap"] for s in scores),
        "speedup_to_paper_quality": paper_seconds / slowest,
        "paper_recipe_steps_per_s": paper_rate,
        "step_rate_ratio_ebmkit": ratio,
        "by_seed": [
            {
                "seed": seed,
                "mse_log_density": s["mse_log_density"],
                "nll_gap": s["nll_gap"],
                "seconds": run.seconds,
            }
            for seed, s, run in zip(SEEDS, scores, runs, strict=True)
        ],
        "paper_recipe_seconds": paper_seconds,
        "paper_recipe_scores": paper_scores,
        "steps_per_s": ours,
        "ebmkit_steps_per_s": theirs,
    }
    path = recorder.write(figures, packages=["ebmkit"])
    best = runs[0]
    picture = plotting.density_beside_truth(
        best.model.in_data_units(),
        scores[0]["log_z"],
        toy_density("25gaussians"),
        bounds=((-4.0, 4.0), (-4.0, 4.0)),
        title=f"25 Gaussians by energy discrepancy, {best.steps:,} steps",
    )
    plotting.save(picture, RESULTS / "ed_25gaussians.png")
    print(json.dumps(figures, indent=2), f"\n{path}")


if __name__ == "__main__":
    main()
