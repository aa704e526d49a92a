"""Fifty seeds of small joint energy models, by chains and by VERA, and what becomes of them.

Joint models are known to blow up after many epochs. Here two hundred a seed on scikit-learn's digits, at a learning
rate that is too high on purpose, with the engine's guard and the objective's regularisation as they are by default;
beside them the same without regularisation. Every training ends in one of three ways:

- *ended well*: it ran to its end; weights, averages and what was saved are finite, and it classifies (accuracy above a
  half);
- *raised*: ``TrainingDivergedError``; the weights it left, in memory and on disk, are finite;
- *silent*: anything else. There is to be none.

A seed ends as the worse of its two trainings by default.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor

from benchmarks.common import RESULTS, one_thread
from chainfree.energies import MLP, JointEnergy
from chainfree.engine import Constant, Engine, OptimizerSettings, TrainingDivergedError
from chainfree.engine.checkpoint import latest_checkpoint, load_checkpoint
from chainfree.evaluation import classifier_scores
from chainfree.experiments import Recorder
from chainfree.experiments.joint.marginals import Marginal, MarginalSettings
from chainfree.objectives import Joint
from chainfree.semi_supervised import semi_supervised_batches

SEEDS = tuple(range(50))
STEPS, BATCH, RATE, HELD_OUT = 3000, 100, 1e-2, 297
SETTINGS = MarginalSettings(
    latent=16, generator_width=64, entropy_weight=1e-2, gradient_penalty=0.0, buffer=1000, step_size=2.0
)
WAYS: dict[str, tuple[Marginal, float | None]] = {
    "vera": ("vera", None),
    "sgld": ("sgld", None),
    "vera, level free": ("vera", 0.0),
    "sgld, level free": ("sgld", 0.0),
}
BY_DEFAULT = ("vera", "sgld")
ENDED_WELL, RAISED, SILENT = "ended well", "raised", "silent"


def ended(marginal: Marginal, energy_square: float | None, seed: int, steps: int, folder: Path) -> str:
    """How one training ends; the square's weight is the default where there is none."""
    digits, classes = load_digits(return_X_y=True)
    x, y = torch.from_numpy(digits).float() / 8 - 1, torch.from_numpy(classes)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    x, y, x_held, y_held = x[order[HELD_OUT:]], y[order[HELD_OUT:]], x[order[:HELD_OUT]], y[order[:HELD_OUT]]
    torch.manual_seed(seed)
    energy = JointEnergy(MLP(64, width=64, depth=2, activation="leaky_relu", outputs=10), classes=10)
    density = SETTINGS.build(marginal, x, seed)[0]
    objective = Joint(density) if energy_square is None else Joint(density, energy_square=energy_square)
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
        engine.fit(semi_supervised_batches(x, y, size=BATCH, labelled=BATCH, seed=seed), steps=steps)
    except TrainingDivergedError:
        raised = True
    saved = load_checkpoint(latest_checkpoint(folder))  # raises where nothing was
    kept = [*_tensors(energy.state_dict()), *_tensors(engine.averaged_weights()), *_tensors(saved)]
    if not all(bool(torch.isfinite(value).all()) for value in kept):
        return f"{SILENT}: what was kept is not finite"
    if raised:
        return RAISED
    with torch.no_grad():
        averaged = engine.averaged_energy()
        assert isinstance(averaged, JointEnergy)
        logits = averaged.logits(x_held)
    if not bool(torch.isfinite(logits).all()) or classifier_scores(logits, y_held).accuracy < 0.5:
        return f"{SILENT}: it does not classify"
    return ENDED_WELL


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
    seeds, steps = (SEEDS[:2], 60) if quick else (SEEDS, STEPS)
    recorder = Recorder("joint_stability", "python -m benchmarks.joint_stability", RESULTS, SEEDS)
    ends: dict[str, list[str]] = {}
    for name, (marginal, energy_square) in WAYS.items():
        ends[name] = []
        for seed in seeds:
            with tempfile.TemporaryDirectory() as folder:
                ends[name].append(ended(marginal, energy_square, seed, steps, Path(folder)))
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
