"""Steps a second of a joint model trained by VERA against one by chains of twenty Langevin steps, equal network and batch.

Both are `chainfree.objectives.Joint` with cross-entropy on the same batch of 64 labelled images, as in JEM; the chains come
from a replay buffer. Three networks in one run, in turns, on one thread: a wide residual one as in both papers, at a size for
a CPU, the small convolutional one, and the perceptron of the tables. VERA's slope is penalised at every row, and at every
fourth; the entropy is estimated on 16 of 64 samples. The ratio that counts is the wide residual network's with the penalty
at every fourth row, the settings with which `joint_stability` looks at what becomes of trainings.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.common import RESULTS, median, one_thread
from chainfree.batches import batches
from chainfree.cli.tables import text_table
from chainfree.energies import MLP, ConvNet, JointEnergy, WideResNet
from chainfree.engine import Constant, Engine, OptimizerSettings
from chainfree.experiments import Recorder
from chainfree.experiments.joint.marginals import Marginal, MarginalSettings
from chainfree.objectives import Joint

BATCH, CLASSES, SIZE = 64, 10, 28
WAYS: dict[str, tuple[Marginal, MarginalSettings]] = {
    "vera": ("vera", MarginalSettings(entropy_samples=16, penalty_every=4)),
    "vera, penalty at all rows": ("vera", MarginalSettings(entropy_samples=16)),
    "sgld": ("sgld", MarginalSettings(buffer=1000)),
}
REPEATS = 7
COUNTED = "WRN-10-2"


class Network(NamedTuple):
    """What makes one, the shape of its rows, and the rounds of a measurement: a few seconds' worth."""

    make: Callable[[], nn.Module]
    event: tuple[int, ...]
    rounds: int


NETWORKS = {
    COUNTED: Network(lambda: WideResNet(depth=10, widen=2, channels=1, outputs=CLASSES), (1, SIZE, SIZE), 2),
    "ConvNet 32-64-128": Network(lambda: ConvNet(channels=1, size=SIZE, outputs=CLASSES), (1, SIZE, SIZE), 8),
    "MLP 1000-500-500-250-250-250": Network(
        lambda: MLP(SIZE**2, width=(1000, 500, 500, 250, 250, 250), activation="leaky_relu", outputs=CLASSES),
        (SIZE**2,),
        20,
    ),
}


def measured(network: Network, way: str) -> Callable[[], float]:
    """A training, as what goes on with it and answers with the seconds that each round took."""
    make, event, rounds = network
    marginal, settings = WAYS[way]
    source = torch.Generator().manual_seed(0)
    x: Tensor = torch.rand(1024, *event, generator=source) * 2 - 1
    y = torch.randint(0, CLASSES, (1024,), generator=source)
    torch.manual_seed(0)
    engine = Engine(
        JointEnergy(make(), CLASSES),
        Joint(settings.build(marginal, x, 0)[0]),
        optimizer=OptimizerSettings(lr=1e-5, betas=(0.0, 0.9)),
        schedule=Constant(),
    )
    stream = batches(x, y=y, size=BATCH, seed=0)

    def some() -> float:
        done = engine.step + rounds
        started = time.perf_counter()
        engine.fit(stream, steps=done)
        return (time.perf_counter() - started) / rounds

    some()  # the first is slower
    return some


def main() -> None:
    one_thread()
    quick = "--quick" in sys.argv
    recorder = Recorder("joint_step", "python -m benchmarks.joint_step", RESULTS, (0,))
    by_network: dict[str, dict[str, float]] = {}
    for name, network in NETWORKS.items():
        asked = {way: measured(network, way) for way in WAYS}
        turns = [{way: some() for way, some in asked.items()} for _ in range(2 if quick else REPEATS)]
        ratios = {way: [turn["sgld"] / turn[way] for turn in turns] for way in WAYS if way != "sgld"}
        by_network[name] = {f"seconds, {way}": median([turn[way] for turn in turns]) for way in WAYS}
        by_network[name] |= {f"ratio, {way}": median(found) for way, found in ratios.items()}
        by_network[name] |= {"least ratio": min(ratios["vera"]), "greatest ratio": max(ratios["vera"])}
        print(f"{name}: {by_network[name]}", flush=True)
    figures = {"step_rate_ratio_vs_sgld": by_network[COUNTED]["ratio, vera"], "by_network": by_network}
    rows = [[name, *(f"{value:.3g}" for value in found.values())] for name, found in by_network.items()]
    print(text_table(["network", *next(iter(by_network.values()))], rows))
    if not quick:
        recorder.write(figures)


if __name__ == "__main__":
    main()
