"""Steps a second of joint energy models, VERA against JEM's 20 steps of SGLD: one network, one batch, one run, one thread.

Networks and settings are those that the search of the recipe `jem_fashion_ood` chose, and a step is everything that the
engine does with its defaults: both players' turns, moving average, guard. Rates are medians over repeats in turn, so
that a noisy neighbour meets both. A small wide residual network, the papers' family, stands beside with the same
settings. The accuracies are those of the very trainings that are timed: equally many steps with all labels of
Fashion-MNIST, three seeds.
"""

from __future__ import annotations

import sys
import time
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.common import RESULTS, median, one_thread
from chainfree.batches import batches
from chainfree.cli.tables import text_table
from chainfree.energies import ConvNet, JointEnergy, WideResNet
from chainfree.engine import Constant, Engine, OptimizerSettings
from chainfree.experiments import Recorder
from chainfree.experiments.joint.methods import method
from chainfree.experiments.joint.networks import Network
from chainfree.experiments.joint.runs import ALL, mean_and_deviation, rate
from chainfree.experiments.joint.tasks import load_task
from chainfree.objectives import Joint

RECIPE = Path("recipes/jem_fashion_ood/config.toml")
SEEDS = (0, 1, 2)
WARM_UP, STEPS, REPEATS = 3, 20, 7
WAYS = ("vera", "sgld")


def chosen() -> dict[str, Network]:
    """The recipe's settings of both ways.

    Raises:
        ValueError: they differ in what has to be equal.
    """
    methods = tomllib.loads(RECIPE.read_text())["methods"][ALL]
    found = {}
    for way in WAYS:
        network = method({key: value for key, value in methods[f"jem_{way}"].items() if key != "temperature"})
        assert isinstance(network, Network)
        found[way] = network
    for name in ("steps", "batch", "widths", "activation"):
        if len({str(getattr(network, name)) for network in found.values()}) > 1:
            raise ValueError(f"{RECIPE} has different {name} for {' and '.join(WAYS)}; compare equal ones")
    return found


def networks(settings: Network) -> dict[str, Callable[[], nn.Module]]:
    return {
        "convolutional": lambda: ConvNet(widths=settings.widths, activation=settings.activation, outputs=10),
        "wide residual 10-2": lambda: WideResNet(depth=10, widen=2, channels=1, outputs=10),
    }


def rates(settings: Mapping[str, Network], make: Callable[[], nn.Module], repeats: int) -> dict[str, float]:
    """Median steps a second of each, taken in turn."""
    x = torch.rand(1024, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
    y = torch.arange(1024) % 10
    engines: dict[str, Any] = {}
    for way, network in settings.items():
        torch.manual_seed(0)
        marginal = network.marginal_settings.build(network.marginal, x, 0)[0]
        engine = Engine(
            JointEnergy(make(), classes=10),
            Joint(marginal, marginal_weight=network.marginal_weight, classification=network.classification),
            optimizer=OptimizerSettings(lr=1e-4),
            schedule=Constant(),
        )
        engines[way] = engine, batches(x, y=y, size=network.batch)
    seconds: dict[str, list[float]] = {way: [] for way in settings}
    for repeat in range(repeats + 1):
        for way, (engine, stream) in engines.items():
            steps = STEPS if repeat else WARM_UP
            started = time.perf_counter()
            engine.fit(stream, steps=engine.step + steps)
            if repeat:
                seconds[way].append((time.perf_counter() - started) / steps)
    return {way: 1 / median(found) for way, found in seconds.items()}


def accuracies(settings: Mapping[str, Network]) -> dict[str, dict[str, Any]]:
    """On Fashion-MNIST's test rows, after equally many steps."""
    task = load_task("fashion", "test")
    found = {}
    for way, network in settings.items():
        fitted = [network.fit(task.x, task.y, classes=10, seed=seed) for seed in SEEDS]
        found[way] = mean_and_deviation([rate(task, one.logits(task.x_judged)).accuracy for one in fitted])
    return found


def main() -> None:
    one_thread()
    quick = "--quick" in sys.argv
    recorder = Recorder("joint_step", "python -m benchmarks.joint_step", RESULTS, SEEDS)
    settings = chosen()
    measured = {
        name: rates(settings, make, 1 if quick else REPEATS) for name, make in networks(settings[WAYS[0]]).items()
    }
    ratios = {name: found["vera"] / found["sgld"] for name, found in measured.items()}
    print(
        text_table(
            ["network", "VERA", "SGLD", "ratio"],
            [[name, *(f"{found[m]:.2f}/s" for m in WAYS), f"{ratios[name]:.2f}"] for name, found in measured.items()],
        )
    )
    if quick:
        return
    figures = {
        "step_rate_ratio_vs_sgld": ratios["convolutional"],
        "ratios": ratios,
        "steps_per_second": measured,
        "accuracy": accuracies(settings),
    }
    print(figures["accuracy"])
    recorder.write(figures)


if __name__ == "__main__":
    main()
