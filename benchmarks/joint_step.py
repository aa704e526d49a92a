"""Steps a second of joint energy models, VERA against JEM's 20 steps of SGLD: one network, one batch, one run, one thread.

A step is everything that the engine does with its defaults: both players' turns, moving average, guard. VERA estimates
the generator's entropy on 8 of its samples. Rates are medians over repeats in turn, so that a noisy neighbour meets
both. The figure is for a small wide residual network, the papers' family, where the network's passes are what a step
costs; beside it stands the convolutional one of the recipe `jem_fashion_ood`, next to which the generator is not free.
The latter is then trained both ways, for equally many steps with all labels of Fashion-MNIST and the settings that the
recipe's search chose; three seeds, and the test rows are scored once.
"""

from __future__ import annotations

import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import RESULTS, median, one_thread
from chainfree.batches import batches
from chainfree.cli.tables import text_table
from chainfree.energies import ConvNet, JointEnergy, WideResNet
from chainfree.engine import Constant, Engine, OptimizerSettings
from chainfree.experiments import Recorder
from chainfree.experiments.joint.marginals import Marginal, MarginalSettings
from chainfree.experiments.joint.runs import ALL, mean_and_deviation, rate, trained
from chainfree.experiments.joint.tasks import load_task
from chainfree.objectives import Joint

RECIPE = Path("recipes/jem_fashion_ood/config.toml")
SEEDS = (0, 1, 2)
BATCH, WARM_UP, STEPS, REPEATS = 64, 3, 10, 7
MARGINALS: tuple[Marginal, ...] = ("vera", "sgld")
ENTROPY_SAMPLES, CHANNELS = 8, (32, 16)


def networks() -> dict[str, torch.nn.Module]:
    torch.manual_seed(0)
    return {
        "convolutional": ConvNet(widths=(32, 64, 128), activation="leaky_relu", outputs=10),
        "wide residual 10-2": WideResNet(depth=10, widen=2, channels=1, outputs=10),
    }


def rates(network: str, repeats: int) -> dict[str, float]:
    """Median steps a second of each, taken in turn."""
    x = torch.rand(1024, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
    y = torch.arange(1024) % 10
    engines: dict[str, Any] = {}
    for name in MARGINALS:
        settings = MarginalSettings(entropy_samples=ENTROPY_SAMPLES, generator_channels=CHANNELS, buffer=1024)
        engine = Engine(
            JointEnergy(networks()[network], classes=10),
            Joint(settings.build(name, x, 0)[0]),
            optimizer=OptimizerSettings(lr=1e-4),
            schedule=Constant(),
        )
        engines[name] = engine, batches(x, y=y, size=BATCH)
    seconds: dict[str, list[float]] = {name: [] for name in MARGINALS}
    for repeat in range(repeats + 1):
        for name, (engine, stream) in engines.items():
            steps = STEPS if repeat else WARM_UP
            started = time.perf_counter()
            engine.fit(stream, steps=engine.step + steps)
            if repeat:
                seconds[name].append((time.perf_counter() - started) / steps)
    return {name: 1 / median(found) for name, found in seconds.items()}


def accuracies() -> dict[str, dict[str, Any]]:
    """On Fashion-MNIST's test rows, after equally many steps."""
    task = load_task("fashion", "test")
    methods = tomllib.loads(RECIPE.read_text())["methods"][ALL]
    steps = {methods[f"jem_{name}"]["steps"] for name in MARGINALS}
    if len(steps) > 1:
        raise ValueError(f"{RECIPE} has methods of {sorted(steps)} steps; compare equal ones")
    found = {}
    for name in MARGINALS:
        settings = {key: value for key, value in methods[f"jem_{name}"].items() if key != "temperature"}
        runs = [trained(task, settings, ALL, balanced=True, seed=seed) for seed in SEEDS]
        found[name] = mean_and_deviation([rate(task, run.logits).accuracy for run in runs])
    return found


def main() -> None:
    one_thread()
    quick = "--quick" in sys.argv
    recorder = Recorder("joint_step", "python -m benchmarks.joint_step", RESULTS, SEEDS)
    measured = {name: rates(name, 1 if quick else REPEATS) for name in networks()}
    ratios = {name: found["vera"] / found["sgld"] for name, found in measured.items()}
    print(
        text_table(
            ["network", "VERA", "SGLD", "ratio"],
            [
                [name, *(f"{found[m]:.2f}/s" for m in MARGINALS), f"{ratios[name]:.2f}"]
                for name, found in measured.items()
            ],
        )
    )
    if quick:
        return
    figures = {
        "step_rate_ratio_vs_sgld": ratios["wide residual 10-2"],
        "ratios": ratios,
        "steps_per_second": measured,
        "accuracy": accuracies(),
    }
    print(figures["accuracy"])
    recorder.write(figures)


if __name__ == "__main__":
    main()
