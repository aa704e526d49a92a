"""Rounds a second and peak memory of VERA: the authors' order of work against ours, equal networks and batch, one run.

The authors' order, as published: the energy of data and of samples in separate passes, an input gradient taken only to be
logged, the posterior's 20 draws in one forward pass whose graph is built and thrown away, batch norm seeing that larger
batch, three torch optimizers with parameters one by one. Ours is `chainfree.Engine` with `chainfree.objectives.VERA` at its
defaults, and beside it the same with the paper's estimator. Every variant runs in processes of its own, in turn, so that
peaks do not mix. The authors' loop has neither moving average nor guard, so the ratios are without both; a row with the
engine's defaults says what they cost.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.common import RESULTS, median
from chainfree.batches import batches
from chainfree.cli.tables import text_table
from chainfree.energies import ConvNet
from chainfree.engine import Constant, Engine, Guard, OptimizerSettings
from chainfree.entropy import ImportancePosterior
from chainfree.experiments import Recorder
from chainfree.generators import DeconvGenerator
from chainfree.objectives import VERA

LATENT, BATCH, CHANNELS, SIZE = 64, 64, 1, 28
GAMMA, WEIGHT, RATE, BETAS = 0.1, 1e-2, 1e-4, (0.0, 0.9)
WARM_UP, ROUNDS, REPEATS, THREADS = 3, 12, 5, 1
VARIANTS = ("authors", "ours", "ours, paper's estimator", "ours, average and guard")


def networks() -> tuple[ConvNet, DeconvGenerator]:
    torch.manual_seed(0)
    energy = ConvNet(channels=CHANNELS, size=SIZE, widths=(32, 64, 128), activation="leaky_relu")
    return energy, DeconvGenerator(LATENT, channels=CHANNELS, size=SIZE, widths=(64, 32))


def rows() -> Tensor:
    return torch.rand(1024, CHANNELS, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1


def authors_order() -> Callable[[], None]:
    """One round in the order of work of the published code, written anew."""
    energy, net = networks()
    log_eta = nn.Parameter(torch.full((LATENT,), -2.3))
    energy_step = torch.optim.Adam(energy.parameters(), lr=RATE, betas=BETAS)
    generator_step = torch.optim.Adam(net.parameters(), lr=RATE, betas=BETAS)
    posterior_step = torch.optim.Adam([log_eta], lr=RATE, betas=BETAS)
    stream = batches(rows(), size=BATCH)

    def one_round() -> None:
        x = next(stream).x.requires_grad_()
        draw = net.sample(BATCH)
        # the energy, data and samples apart
        data = -energy(x)
        (slope,) = torch.autograd.grad(data.sum(), x, create_graph=True)
        penalty = slope.flatten(1).square().sum(1).mean() / 2
        fake_rows = draw.x.detach().requires_grad_()
        fake = -energy(fake_rows)
        # an input gradient at the samples, for the log alone
        torch.autograd.grad(fake.sum(), fake_rows, retain_graph=True)[0].flatten(1).norm(dim=1).mean().item()
        loss = -(data.mean() - fake.mean()) + GAMMA * penalty
        energy_step.zero_grad()
        loss.backward()
        energy_step.step()
        # the posterior's scale by its one-draw bound
        z = draw.z + log_eta.exp() * torch.randn_like(draw.z)
        bound = net.log_likelihood(draw.x.detach(), net(z)).mean() - 0.5 * z.square().sum(1).mean() + log_eta.sum()
        posterior_step.zero_grad()
        (-bound).backward()
        posterior_step.step()
        # the score by 20 draws, with a graph that is thrown away
        noise = torch.randn(20, *draw.z.shape)
        z = draw.z + log_eta.exp() * noise
        means = net(z.flatten(0, 1)).view(20, *draw.x.shape)
        joint = net.log_likelihood(draw.x, means) - 0.5 * z.square().sum(-1) + 0.5 * noise.square().sum(-1)
        weights = torch.softmax(joint, 0).view(20, BATCH, 1, 1, 1)
        score = -((draw.x - (weights * means).sum(0)) / net.sigma.square()).detach()
        entropy = -(score * draw.x).flatten(1).sum(1).mean()
        generator_step.zero_grad()
        (energy(draw.x).mean() - WEIGHT * entropy).backward()
        generator_step.step()
        net.constrain()
        loss.item(), entropy.item()

    return one_round


def ours(estimator: ImportancePosterior | None = None, *, bare: bool = True) -> Callable[[], None]:
    """The engine, asked for one more round each time."""
    energy, net = networks()
    objective = VERA(net, entropy=estimator, entropy_weight=WEIGHT, gradient_penalty=GAMMA)
    engine = Engine(
        energy,
        objective,
        optimizer=OptimizerSettings(lr=RATE, betas=BETAS),
        schedule=Constant(),
        ema=None if bare else 0.999,
        guard=None if bare else Guard(),
    )
    stream = batches(rows(), size=BATCH)

    def several(done: list[int] = [0]) -> None:  # noqa: B006  (a counter)
        done[0] += 1
        engine.fit(stream, steps=done[0])

    return several


def measure(variant: str) -> dict[str, float]:
    """Rounds a second and the growth of the peak of resident memory, in this process."""
    torch.set_num_threads(THREADS)
    makers: dict[str, Callable[[], Callable[[], None]]] = {
        "authors": authors_order,
        "ours": ours,
        "ours, average and guard": lambda: ours(bare=False),
        "ours, paper's estimator": lambda: ours(ImportancePosterior(LATENT)),
    }
    # one small convolution, so that libraries are loaded before memory is read
    nn.Conv2d(1, 1, 3)(torch.zeros(1, 1, 8, 8)).sum().backward()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    one_round = makers[variant]()
    for _ in range(WARM_UP):
        one_round()
    started = time.perf_counter()
    for _ in range(ROUNDS):
        one_round()
    rate = ROUNDS / (time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"rounds_per_s": rate, "peak_mib": (peak - before) / 1024}


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
        return
    torch.set_num_threads(THREADS)
    recorder = Recorder("vera_step", "python -m benchmarks.vera_step", RESULTS, (0,))
    found: dict[str, list[dict[str, Any]]] = {variant: [] for variant in VARIANTS}
    for _ in range(REPEATS):
        for variant in VARIANTS:
            command = [sys.executable, "-m", "benchmarks.vera_step", variant]
            printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            found[variant].append(json.loads(printed))
    rate = {v: median([r["rounds_per_s"] for r in runs]) for v, runs in found.items()}
    peak = {v: median([r["peak_mib"] for r in runs]) for v, runs in found.items()}
    ratios = [
        mine["rounds_per_s"] / theirs["rounds_per_s"]
        for mine, theirs in zip(found["ours"], found["authors"], strict=True)
    ]
    print(
        text_table(["order of work", "rounds/s", "peak MiB"], [[v, f"{rate[v]:.2f}", f"{peak[v]:.0f}"] for v in rate])
    )
    figures = {
        "round_rate_ratio": median(ratios),
        "memory_ratio": peak["ours"] / peak["authors"],
        "rounds_per_s": rate,
        "peak_mib": peak,
        "round_rate_ratio_with_the_papers_estimator": rate["ours, paper's estimator"] / rate["authors"],
        "batch": BATCH,
        "latent": LATENT,
    }
    print(json.dumps(figures, indent=2), recorder.write(figures))


if __name__ == "__main__":
    main()
