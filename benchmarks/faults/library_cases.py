"""Bad arguments to the library."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.faults.program import Case, in_library
from benchmarks.faults.settings import SEED
from chainfree.batches import SampledBatches, batches
from chainfree.checks import energy_values
from chainfree.datasets import Table, toy_density
from chainfree.energies import MLP, ConvNet, FourierMLP, Gaussian, GaussianMixture, Ring
from chainfree.engine import (
    Engine,
    Guard,
    OptimizerSettings,
)
from chainfree.losses import EnergyDiscrepancy
from chainfree.perturbations import Gaussian as GaussianNoise
from chainfree.perturbations import LogUniform, MeanPool


def library_cases() -> Iterator[Case]:
    nan, inf = float("nan"), float("inf")
    rows = torch.randn(16, 2, generator=torch.Generator().manual_seed(SEED))
    bad_rows: dict[str, Any] = {
        "0-d": torch.zeros(()),
        "1-d": torch.zeros(4),
        "no rows": torch.zeros(0, 2),
        "no columns": torch.zeros(4, 0),
        "complex": torch.zeros(4, 2, dtype=torch.complex64),
        "NaN": torch.full((4, 2), nan),
        "infinite": torch.full((4, 2), inf),
        "text": np.full((4, 2), "a"),
        "objects": np.array([[1, {}]] * 4, dtype=object),
        "dates": np.zeros((4, 2), dtype="M8[s]"),
        "a list": [[1.0, 2.0]],
        "nothing": None,
    }
    for name, x in bad_rows.items():
        yield Case(f"batches: {name}", lambda x=x: in_library(lambda: batches(x, size=1)))
    for size in (0, -1, 17, 1.5, True, "4", None):
        yield Case(f"batches: size {size!r}", lambda s=size: in_library(lambda: batches(rows, size=s)))
        if size != 17:
            yield Case(
                f"sampled: size {size!r}",
                lambda s=size: in_library(lambda: SampledBatches(toy_density("moons"), size=s)),
            )
    for seed in (1.5, "1", None, True):
        yield Case(f"batches: seed {seed!r}", lambda s=seed: in_library(lambda: batches(rows, size=4, seed=s)))
    for shape in ((), (15,), (16, 1)):
        yield Case(f"batches: y {shape}", lambda s=shape: in_library(lambda: batches(rows, size=4, y=torch.zeros(s))))
    settings: dict[str, Callable[[], Any]] = {
        "draws 0": lambda: EnergyDiscrepancy(draws=0),
        "draws 1.5": lambda: EnergyDiscrepancy(draws=1.5),
        "w -1": lambda: EnergyDiscrepancy(w=-1.0),
        "w NaN": lambda: EnergyDiscrepancy(w=nan),
        "chunk 0": lambda: EnergyDiscrepancy(chunk=0),
        "t 0": lambda: GaussianNoise(t=0.0),
        "t NaN": lambda: GaussianNoise(t=nan),
        "t of text": lambda: GaussianNoise(t="wide"),
        "low above high": lambda: LogUniform(low=2.0, high=1.0),
        "window 1": lambda: MeanPool(window=1, t=1.0),
        "width 0": lambda: MLP(2, width=0),
        "dim 0": lambda: MLP(0),
        "activation": lambda: MLP(2, activation="swish"),
        "small image": lambda: ConvNet(size=4),
        "not positive definite": lambda: Gaussian(torch.zeros(2), -torch.eye(2)),
        "covariance of another shape": lambda: Gaussian(torch.zeros(2), torch.eye(3)),
        "negative weight": lambda: GaussianMixture(torch.zeros(2, 2), 1.0, [0.5, -0.5]),
        "clip 0": lambda: Engine(MLP(2), EnergyDiscrepancy(), clip=0.0),
        "ema 1": lambda: Engine(MLP(2), EnergyDiscrepancy(), ema=1.0),
        "precision": lambda: Engine(MLP(2), EnergyDiscrepancy(), precision="fp64"),
        "accumulate 0": lambda: Engine(MLP(2), EnergyDiscrepancy(), accumulate=0),
        "nothing to train": lambda: Engine(nn.Identity(), EnergyDiscrepancy()),
        "lr 0": lambda: OptimizerSettings(lr=0.0),
        "guard of 0": lambda: Guard(limit=0.0),
        "steps 0": lambda: Engine(MLP(2), EnergyDiscrepancy()).fit(batches(rows, size=4), steps=0),
        "steps 1.5": lambda: Engine(MLP(2), EnergyDiscrepancy()).fit(batches(rows, size=4), steps=1.5),
        "t per feature": lambda: Engine(MLP(2), EnergyDiscrepancy(perturbation=GaussianNoise(t=(1.0, 1.0, 1.0)))).fit(
            batches(rows, size=4), steps=1
        ),
        "mean pool of rows": lambda: Engine(MLP(2), EnergyDiscrepancy(perturbation=MeanPool(window=2, t=1.0))).fit(
            batches(rows, size=4), steps=1
        ),
        "a table of NaN": lambda: Table(("a",), np.full((3, 1), nan)),
        "names of a table": lambda: Table(("a",), np.zeros((3, 2))),
    }
    for name, make in settings.items():
        yield Case(f"settings: {name}", lambda m=make: in_library(m))
    returns: dict[str, Callable[[Tensor], Any]] = {
        "a column": lambda x: x[:, :1],
        "a mean": lambda x: x.mean(),
        "rows": lambda x: x,
        "too few": lambda x: x[1:, 0],
        "integers": lambda x: x[:, 0].long(),
        "nothing": lambda x: None,
    }
    for name, what in returns.items():
        yield Case(
            f"contract: {name}",
            lambda w=what: in_library(
                lambda: Engine(_Says(w), EnergyDiscrepancy()).fit(batches(rows, size=4), steps=1)
            ),
        )
    energies = {
        "MLP": MLP(2),
        "FourierMLP": FourierMLP(2),
        "Gaussian": Gaussian(torch.zeros(2)),
        "GaussianMixture": GaussianMixture(torch.zeros(3, 2)),
        "Ring": Ring(),
    }
    for name, energy in energies.items():
        for width in (1, 3):
            wrong = torch.zeros(5, width)
            yield Case(f"{name}: {width} columns", lambda e=energy, x=wrong: in_library(lambda: energy_values(e, x)))
    for name in ("MLP", "FourierMLP"):
        for wrong in (torch.zeros(16, 3), torch.zeros(16, 2, dtype=torch.float64)):
            yield Case(
                f"fit: {name} on {wrong.shape[1]} columns of {wrong.dtype}",
                lambda e=energies[name], x=wrong: in_library(
                    lambda: Engine(e, EnergyDiscrepancy()).fit(batches(x, size=4), steps=1)
                ),
            )


class _Says(nn.Module):
    def __init__(self, what: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.weight, self.what = nn.Parameter(torch.ones(())), what

    def forward(self, x: Tensor) -> Any:
        return self.what(x * self.weight)
