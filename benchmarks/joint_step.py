"""Steps a second of a joint model trained by VERA against one by chains of twenty Langevin steps, equal network and batch.

Both are `chainfree.objectives.Joint` with cross-entropy on the same batch of 64 labelled images, as in JEM; the chains come
from a replay buffer. Three networks in one run, in turns, on one thread: a wide residual one as in both papers, at a size for
a CPU, the small convolutional one, and the perceptron of the tables. The ratio that counts is the wide residual network's.
What an accuracy comes of it is measured where both are trained to the end, in the recipe `jem_fashion_ood`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

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
SETTINGS = MarginalSettings(entropy_samples=16, penalty_every=4, buffer=1000)
MARGINALS: tuple[Marginal, Marginal] = ("vera", "sgld")
ROUNDS, REPEATS = 2, 7
PAPERS = "WRN-10-2"
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    PAPERS: (lambda: WideResNet(depth=10, widen=2, channels=1, outputs=CLASSES), (1, SIZE, SIZE)),
    "ConvNet 32-64-128": (lambda: ConvNet(channels=1, size=SIZE, outputs=CLASSES), (1, SIZE, SIZE)),
    "MLP 1000-500-500-250-250-250": (
        lambda: MLP(SIZE**2, width=(1000, 500, 500, 250, 250, 250), activation="leaky_relu", outputs=CLASSES),
        (SIZE**2,),
    ),
}


def rounds(network: str, marginal: Marginal) -> Callable[[], float]:
    """A training, and what asks it for some more rounds and answers with the seconds that each took."""
    make, event = NETWORKS[network]
    source = torch.Generator().manual_seed(0)
    x: Tensor = torch.rand(1024, *event, generator=source) * 2 - 1
    y = torch.randint(0, CLASSES, (1024,), generator=source)
    torch.manual_seed(0)
    engine = Engine(
        JointEnergy(make(), CLASSES),
        Joint(SETTINGS.build(marginal, x, 0)[0]),
        optimizer=OptimizerSettings(lr=1e-5, betas=(0.0, 0.9)),
        schedule=Constant(),
    )
    stream = batches(x, y=y, size=BATCH, seed=0)

    def some() -> float:
        done = engine.step + ROUNDS
        started = time.perf_counter()
        engine.fit(stream, steps=done)
        return (time.perf_counter() - started) / ROUNDS

    some()  # the first is slower
    return some


def main() -> None:
    one_thread()
    quick = "--quick" in sys.argv
    recorder = Recorder("joint_step", "python -m benchmarks.joint_step", RESULTS, (0,))
    by_network: dict[str, dict[str, float]] = {}
    for network in NETWORKS:
        vera, sgld = (rounds(network, marginal) for marginal in MARGINALS)
        pairs = [(vera(), sgld()) for _ in range(2 if quick else REPEATS)]
        by_network[network] = {
            "vera_seconds": median([pair[0] for pair in pairs]),
            "sgld_seconds": median([pair[1] for pair in pairs]),
            "ratio": median([pair[1] / pair[0] for pair in pairs]),
            "ratio_least": min(pair[1] / pair[0] for pair in pairs),
            "ratio_most": max(pair[1] / pair[0] for pair in pairs),
        }
        print(f"{network}: {by_network[network]}", flush=True)
    figures = {"step_rate_ratio_vs_sgld": by_network[PAPERS]["ratio"], "by_network": by_network}
    rows = [[name, *(f"{value:.3g}" for value in found.values())] for name, found in by_network.items()]
    print(text_table(["network", *next(iter(by_network.values()))], rows))
    if not quick:
        recorder.write(figures)


if __name__ == "__main__":
    main()
