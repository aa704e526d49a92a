"""Fifty seeds of small joint energy models, by chains and by VERA, and what becomes of them.

Joint models are known to blow up after many epochs. Here a hundred a seed on scikit-learn's digits, at a learning
rate that is too high on purpose, with the engine's guard, the objective's level and VERA's penalty as they are by
default; beside them the same with level and slope left free. Every training ends in one of three ways:

- *ended well*: it ran to its end; weights, averages and what was saved are finite; it classifies (accuracy on held-out
  digits above a half); and its energy is one of digits: held-out ones lie lower than noise (AUROC above 0.7), within a
  thousand nats of zero on average;
- *raised*: ``TrainingDivergedError``; the weights it left, in memory and on disk, are finite;
- *silent*: anything else. There is to be none.

A seed ends as the worse of its two trainings by default. As many are trained at a time as there are cores, each on one
thread.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import joblib
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from benchmarks.common import RESULTS, one_thread
from chainfree.energies import MLP, JointEnergy
from chainfree.engine import Constant, Engine, OptimizerSettings, TrainingDivergedError
from chainfree.engine.checkpoint import latest_checkpoint, load_checkpoint
from chainfree.evaluation import anomaly_scores, classifier_scores
from chainfree.experiments import Recorder
from chainfree.experiments.joint.marginals import Marginal, MarginalSettings
from chainfree.experiments.side_by_side import side_by_side
from chainfree.objectives import Joint
from chainfree.semi_supervised import semi_supervised_batches

# others than those on which runaway chains were found and their limit was set
SEEDS = tuple(range(100, 150))
STEPS, BATCH, RATE, HELD_OUT = 1500, 100, 1e-2, 297
# the penalty and the entropy on a part of the rows, as where steps a second are measured
LATENT = {"latent": 16, "generator_width": 64, "entropy_weight": 1.0, "entropy_samples": 16, "penalty_every": 4}
CHAINS = {"buffer": 1000, "step_size": 0.02, "chain_noise": 0.14}
WAYS: dict[str, tuple[Marginal, MarginalSettings, float | None]] = {
    "vera": ("vera", MarginalSettings(**LATENT), None),
    "sgld": ("sgld", MarginalSettings(**CHAINS), None),
    "vera, free": ("vera", MarginalSettings(**LATENT, gradient_penalty=0.0), 0.0),
    "sgld, free": ("sgld", MarginalSettings(**CHAINS), 0.0),
}
BY_DEFAULT = ("vera", "sgld")
ACCURACY, LEVEL, AUROC = 0.5, 1000.0, 0.7
ENDED_WELL, RAISED, SILENT = "ended well", "raised", "silent"


def ended(way: str, seed: int, steps: int, folder: Path) -> str:
    """How one training ends."""
    marginal, settings, level_weight = WAYS[way]  # the default where there is none
    digits, classes = load_digits(return_X_y=True)
    x, y = torch.from_numpy(digits).float() / 8 - 1, torch.from_numpy(classes)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    x, y, x_held, y_held = x[order[HELD_OUT:]], y[order[HELD_OUT:]], x[order[:HELD_OUT]], y[order[:HELD_OUT]]
    torch.manual_seed(seed)
    energy = JointEnergy(MLP(64, width=64, depth=2, activation="leaky_relu", outputs=10), classes=10)
    density = settings.build(marginal, x, seed)[0]
    objective = Joint(density) if level_weight is None else Joint(density, level_weight=level_weight)
    engine = Engine(
        energy,
        objective,
        seed=seed,
        optimizer=OptimizerSettings(lr=RATE, betas=(0.0, 0.9)),
        schedule=Constant(),
        ema=0.99,
        checkpoints=folder,
        checkpoint_every=steps,
    )
    raised = False
    try:
        report = engine.fit(semi_supervised_batches(x, y, size=BATCH, labelled=BATCH, seed=seed), steps=steps)
        if report.stopped == "interrupted":
            raise KeyboardInterrupt(f"stopped at step {report.steps} of way {way!r}, seed {seed}")
    except TrainingDivergedError:
        raised = True
    saved = load_checkpoint(latest_checkpoint(folder))  # raises where nothing was
    kept = [*_tensors(energy.state_dict()), *_tensors(engine.averaged_weights()), *_tensors(saved)]
    if not all(bool(torch.isfinite(value).all()) for value in kept):
        return f"{SILENT}: what was kept is not finite"
    if raised:
        return RAISED
    averaged = engine.averaged(energy)
    with torch.no_grad():
        logits = averaged.logits(x_held)
        energies = averaged(torch.cat([x_held, 2 * torch.rand(x_held.shape) - 1]))
    if not bool(torch.isfinite(logits).all()) or classifier_scores(logits, y_held).accuracy < ACCURACY:
        return f"{SILENT}: it does not classify"
    if not abs(float(energies[: len(x_held)].mean())) < LEVEL:
        return f"{SILENT}: its level ran away"
    if anomaly_scores(energies, torch.arange(len(energies)) >= len(x_held)).auroc < AUROC:
        return f"{SILENT}: its energy is not one of digits"
    return ENDED_WELL


def ended_somewhere(way: str, seed: int, steps: int) -> str:
    """The same in a folder that goes with it."""
    with tempfile.TemporaryDirectory() as folder:
        return ended(way, seed, steps, Path(folder))


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        if values.is_floating_point():
            yield values
    elif isinstance(values, dict):
        for value in values.values():
            yield from _tensors(value)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)


def main() -> None:
    one_thread()
    quick = "--quick" in sys.argv
    seeds, steps = (SEEDS[:2], 600) if quick else (SEEDS, STEPS)
    recorder = Recorder("joint_stability", "python -m benchmarks.joint_stability", RESULTS, SEEDS)
    ends: dict[str, list[str]] = {}
    for name in WAYS:
        asked = [(name, seed, steps) for seed in seeds]
        ends[name] = [end for _, end in sorted(side_by_side(ended_somewhere, asked, jobs=joblib.cpu_count()))]
        print(f"{name}: {dict(Counter(ends[name]))}", flush=True)
    worst = [max(of_seed, key=_badness) for of_seed in zip(*(ends[name] for name in BY_DEFAULT), strict=True)]
    figures = {"seeds": len(seeds), **_counts(worst), "by_way": {name: _counts(found) for name, found in ends.items()}}
    print(figures)
    if not quick:
        recorder.write(figures)


def _badness(end: str) -> int:
    return (ENDED_WELL, RAISED, SILENT).index(end.partition(":")[0])


def _counts(ends: Sequence[str]) -> dict[str, Any]:
    silent = Counter(end for end in ends if end.startswith(SILENT))
    return {
        "ended_well": ends.count(ENDED_WELL),
        "raised": ends.count(RAISED),
        "silent": silent.total(),
        "silent_how": dict(silent),
    }


if __name__ == "__main__":
    main()
