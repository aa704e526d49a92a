"""Do coupled draws lower the variance of energy discrepancy's gradient at equal cost?

The noise of the M draws given y: independent, antithetic pairs, scrambled Sobol points, each with the right marginals.
The gradient of one batch is taken many times with fresh noise; what is reported is the trace of its covariance over that
of independent draws (below 1 is better), and the seconds of one gradient likewise.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from benchmarks.common import RESULTS, median, one_thread, settings_from, train
from chainfree.cli.tables import text_table
from chainfree.datasets import load_digits_one_held_out, toy_density
from chainfree.energies import MLP, Gaussian, Tilted
from chainfree.experiments import Recorder
from chainfree.functional import stabilised_contrast

SEEDS = (0, 1, 2)
REPEATS = 400
BATCH = 128
DRAWS = (4, 16)

Noise = Callable[[int, Tensor, torch.Generator], Tensor]
Problem = tuple[torch.nn.Module, Tensor, float]  # energy, batch, t


def independent(draws: int, y: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn((draws, *y.shape), generator=generator)


def antithetic(draws: int, y: Tensor, generator: torch.Generator) -> Tensor:
    half = torch.randn((draws // 2, *y.shape), generator=generator)
    return torch.cat([half, -half])


def sobol(draws: int, y: Tensor, generator: torch.Generator) -> Tensor:
    """One scrambled net for the batch, shifted modulo one for every datum so that data stay independent."""
    seed = int(torch.randint(2**31, (1,), generator=generator))
    net = SobolEngine(y.shape[1], scramble=True, seed=seed).draw(draws)
    shifted = (net.unsqueeze(1) + torch.rand(y.shape, generator=generator)) % 1.0
    return torch.special.ndtri(shifted.clamp(1e-6, 1 - 1e-6))


COUPLINGS: dict[str, Noise] = {"independent": independent, "antithetic": antithetic, "sobol": sobol}


def gradient(problem: Problem, draws: int, noise: Noise, generator: torch.Generator) -> Tensor:
    energy, x, t = problem
    scale = t**0.5
    y = x + scale * torch.randn(x.shape, generator=generator)
    recovered = y + scale * noise(draws, y, generator)
    energies = energy(torch.cat([x.unsqueeze(0), recovered]).flatten(0, 1)).view(draws + 1, len(x))
    loss = stabilised_contrast(energies[0], energies[1:], 1.0).mean()
    parameters = [p for p in energy.parameters() if p.requires_grad]
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])


def measure(problem: Problem, draws: int, noise: Noise, seed: int) -> tuple[float, float]:
    """Trace of the gradient's covariance over repeats, and median seconds of one gradient."""
    generator = torch.Generator().manual_seed(seed)
    total = squares = torch.zeros(())
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        g = gradient(problem, draws, noise, generator).double()
        seconds.append(time.perf_counter() - started)
        total, squares = total + g, squares + g.square()
    variance = (squares - total.square() / REPEATS) / (REPEATS - 1)
    return float(variance.sum()), median(seconds)


def problems() -> dict[str, Problem]:
    """A planar network half-way through training, and a network on 64 pixels near its start."""
    flags = ["--data", "toy:25gaussians", "--scaling", "none", "--loss.t", "1.0", "--steps", "800"]
    half_trained = train(settings_from(None, *flags)).model.energy.requires_grad_(True)
    planar = toy_density("25gaussians").sample(BATCH, generator=torch.Generator().manual_seed(0))
    pixels = load_digits_one_held_out(0, seed=0).x_train
    torch.manual_seed(0)
    tilted = Tilted(Gaussian.fit(pixels), MLP(64))
    return {"25 Gaussians, t = 1": (half_trained, planar, 1.0), "digits, t = 0.001": (tilted, pixels[:BATCH], 1e-3)}


def main() -> None:
    one_thread()
    recorder = Recorder("ed_gradient_variance", "python -m benchmarks.ed_gradient_variance", RESULTS, SEEDS)
    figures: dict[str, dict[str, dict[str, float]]] = {}
    rows = []
    for title, problem in problems().items():
        for draws in DRAWS:
            found = {
                name: [measure(problem, draws, noise, seed) for seed in SEEDS] for name, noise in COUPLINGS.items()
            }
            base = found["independent"]
            entry = {}
            for name, runs in found.items():
                variance = median([r[0] / b[0] for r, b in zip(runs, base, strict=True)])
                seconds = median([r[1] / b[1] for r, b in zip(runs, base, strict=True)])
                entry[name] = {"variance": variance, "seconds": seconds, "variance_at_equal_cost": variance * seconds}
                rows.append(
                    [f"{title}, M = {draws}", name, f"{variance:.3f}", f"{seconds:.3f}", f"{variance * seconds:.3f}"]
                )
            figures[f"{title}, M = {draws}"] = entry
    print(text_table(["problem", "draws", "variance", "time", "variance x time"], rows))
    print(recorder.write(figures))


if __name__ == "__main__":
    main()
