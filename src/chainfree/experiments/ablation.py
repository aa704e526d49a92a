"""How t, M and w change what energy discrepancy learns, one at a time, on a toy density."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from .. import plotting
from ..batches import SampledBatches
from ..checks import require_non_negative, require_positive, require_positive_int
from ..datasets import toy_density
from ..energies import FourierMLP, Tilted
from ..energies import Gaussian as MultivariateNormal
from ..engine import Cosine, Engine, OptimizerSettings
from ..evaluation import log_z_quadrature, nll_gap
from ..losses import EnergyDiscrepancy
from ..perturbations import Gaussian, LogUniform
from .checks import require_each, require_seeds

__all__ = ["Ablation"]


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """Settings of the experiment.

    Args:
        density: a toy density.
        t: variances tried at the default M and w.
        t_range: low and high of the multi-scale variance tried beside them.
        draws: M tried at the default t and w.
        w: weights tried at the default t and M.
        default_t, default_draws, default_w: what is held while one of them varies.
        steps, batch, lr: of training by Adam.
        base_deviation: standard deviation of the normal that the network tilts.
        bounds: half the side of the box that log Z is integrated over.
        points: nodes an axis of the integration.
        seeds: of training.
    """

    density: str = "25gaussians"
    t: Sequence[float] = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
    t_range: Sequence[float] = (0.05, 4.0)
    draws: Sequence[int] = (1, 2, 4, 8, 16, 32)
    w: Sequence[float] = (0.25, 0.5, 1.0, 2.0, 4.0)
    default_t: float = 1.0
    default_draws: int = 4
    default_w: float = 1.0
    steps: int = 1500
    batch: int = 128
    lr: float = 4e-3
    base_deviation: float = 2.0
    bounds: float = 10.0
    points: int = 801
    seeds: Sequence[int] = (0, 1, 2)

    def __post_init__(self) -> None:
        toy_density(self.density)
        for name in ("default_draws", "steps", "batch", "points"):
            require_positive_int(name, getattr(self, name))
        for name in ("default_t", "lr", "base_deviation", "bounds"):
            require_positive(name, getattr(self, name))
        require_non_negative("default_w", self.default_w)
        require_each("t", self.t, require_positive)
        require_each("draws", self.draws, require_positive_int)
        require_each("w", self.w, require_positive)  # drawn over log2 w
        if isinstance(self.t_range, str) or len(self.t_range) != 2:
            raise ValueError(f"t_range must be [low, high], got {self.t_range!r}")
        LogUniform(low=self.t_range[0], high=self.t_range[1])
        require_seeds(self.seeds)

    def run(self) -> tuple[dict[str, Any], Figure]:
        """Figures (NLL gap by setting, a number per seed) and the picture."""
        sweeps: dict[str, dict[str, list[float]]] = {
            "t": {f"{t:g}": self._gaps(t=t) for t in self.t},
            "draws": {f"{m}": self._gaps(draws=m) for m in self.draws},
            "w": {f"{w:g}": self._gaps(w=w) for w in self.w},
        }
        low, high = self.t_range
        sweeps["t"][f"log-uniform {low:g} to {high:g}"] = self._gaps(t=LogUniform(low=low, high=high))
        panels = [
            _panel("variance t", self.t, sweeps["t"], "log10 t", np.log10),
            _panel("draws M", self.draws, sweeps["draws"], "log2 M", np.log2),
            _panel("weight w", self.w, sweeps["w"], "log2 w", np.log2),
        ]
        title = f"NLL gap on {self.density} after {self.steps:,} steps"
        return sweeps, plotting.line_panels(panels, columns=3, title=title)

    def _gaps(
        self, *, t: float | LogUniform | None = None, draws: int | None = None, w: float | None = None
    ) -> list[float]:
        loss = EnergyDiscrepancy(
            perturbation=Gaussian(t=self.default_t if t is None else t),
            draws=self.default_draws if draws is None else draws,
            w=self.default_w if w is None else w,
        )
        return [self._gap(loss, seed) for seed in self.seeds]

    def _gap(self, loss: EnergyDiscrepancy, seed: int) -> float:
        density = toy_density(self.density)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = FourierMLP(2, scale=2.0, seed=seed)
        # a small t leaves a network far from the data as it was, and alone it would have most of its mass there
        base = MultivariateNormal(torch.zeros(2), self.base_deviation**2 * torch.eye(2))
        energy = Tilted(base, network)
        engine = Engine(
            energy, loss, seed=seed, optimizer=OptimizerSettings(lr=self.lr), schedule=Cosine(warmup=50), ema=0.99
        )
        engine.fit(SampledBatches(density, size=self.batch, seed=seed), steps=self.steps)
        averaged = engine.averaged_energy()
        log_z = log_z_quadrature(averaged, [(-self.bounds, self.bounds)] * 2, points=self.points)
        x = density.sample(20_000, generator=torch.Generator().manual_seed(10_000))
        return nll_gap(averaged, log_z.value, density, x)


def _panel(
    title: str, settings: Sequence[float], gaps: dict[str, list[float]], x_label: str, scale: Any
) -> plotting.Panel:
    table = np.array([gaps[f"{s:g}"] for s in settings])
    curves = {f"seed {i}": table[:, i] for i in range(table.shape[1])}
    return plotting.Panel(
        title, scale(np.array(settings, dtype=float)), curves, x_label=x_label, y_label="NLL gap (nats)"
    )
