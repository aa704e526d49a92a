"""What the stabilising weight w does to a learned energy.

Figure 2 of Schroeder et al., NeurIPS 2023, arXiv 2307.06431: N(0, 1), a tiny network, M = 4, t = 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from .. import plotting
from ..batches import batches
from ..checks import require_non_negative, require_positive, require_positive_int
from ..energies import MLP
from ..engine import Cosine, Engine, Guard, OptimizerSettings, TrainingDivergedError
from ..losses import EnergyDiscrepancy
from ..perturbations import Gaussian
from .checks import require_each, require_seeds

__all__ = ["WStabilisation"]


@dataclass(frozen=True, kw_only=True)
class WStabilisation:
    """Settings of the experiment.

    Args:
        rows: data drawn.
        w: weights of the datum among its draws.
        t: variance of the perturbation.
        draws: M.
        width, depth: of the SiLU network.
        steps, batch, lr: of training by Adam.
        seeds: of data and training.
    """

    rows: int = 4096
    w: Sequence[float] = (0.0, 0.1, 1.0, 4.0)
    t: float = 1.0
    draws: int = 4
    width: int = 32
    depth: int = 2
    steps: int = 2000
    batch: int = 256
    lr: float = 5e-3
    seeds: Sequence[int] = (0, 1, 2)

    def __post_init__(self) -> None:
        for name in ("rows", "draws", "width", "depth", "steps", "batch"):
            require_positive_int(name, getattr(self, name))
        if self.batch > self.rows:
            raise ValueError(f"batch must be at most rows={self.rows}, got {self.batch!r}")
        require_positive("t", self.t)
        require_positive("lr", self.lr)
        require_each("w", self.w, require_non_negative)
        require_seeds(self.seeds)

    def run(self) -> tuple[dict[str, Any], Figure]:
        """Figures (curvature of every learned energy, 1 in truth) and the picture."""
        x = np.linspace(-3, 3, 121)
        panels, figures = [], {}
        for w in self.w:
            learned = {}
            curvatures = []
            outcome = []
            for seed in self.seeds:
                energy, ended = self._train(w, seed)
                with torch.no_grad():
                    values = energy(torch.from_numpy(x).float().unsqueeze(-1)).double().numpy()
                learned[f"seed {seed}"] = values - values[np.abs(x).argmin()]
                # the second coefficient of a least-squares parabola on [-2, 2]: 1/2 in truth
                near = np.abs(x) <= 2
                curvatures.append(float(2 * np.polyfit(x[near], values[near], 2)[0]))
                outcome.append(ended)
            figures[f"w={w:g}"] = {"curvature": curvatures, "ended": outcome}
            curves = {"truth": 0.5 * x**2, **{k: np.clip(v, -5, 20) for k, v in learned.items()}}
            panels.append(plotting.Panel(f"w = {w:g}", x, curves, x_label="x", y_label="energy (nats)"))
        title = f"Learned against true energy, M = {self.draws}, t = {self.t:g}"
        return figures, plotting.line_panels(panels, title=title)

    def _train(self, w: float, seed: int) -> tuple[torch.nn.Module, str]:
        data = torch.randn(self.rows, 1, generator=torch.Generator().manual_seed(seed))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            energy = MLP(1, width=self.width, depth=self.depth, activation="silu")
        loss = EnergyDiscrepancy(perturbation=Gaussian(t=self.t), draws=self.draws, w=w)
        engine = Engine(
            energy,
            loss,
            seed=seed,
            optimizer=OptimizerSettings(lr=self.lr),
            schedule=Cosine(),
            ema=0.99,
            guard=Guard(limit=1e4, tries=1),
        )
        try:
            ended = engine.fit(batches(data, size=self.batch, seed=seed), steps=self.steps).stopped
        except TrainingDivergedError:
            ended = "diverged"
        return engine.averaged_energy(), ended
