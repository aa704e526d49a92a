"""Which losses see the weights of far modes.

Figure 1 of Schroeder et al., NeurIPS 2023, arXiv 2307.06431: data from 0.2 N(-5, 1) + 0.8 N(5, 1), the loss of a model
whose only unknown is the weight of its left mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from .. import plotting
from ..checks import require_positive, require_positive_int
from ..energies import GaussianMixture
from ..functional import energy_discrepancy
from ..perturbations import Gaussian
from .checks import require_each, require_seeds

__all__ = ["Nearsightedness"]


@dataclass(frozen=True, kw_only=True)
class Nearsightedness:
    """Settings of the experiment.

    Args:
        rows: data drawn.
        weight: of the left mode, in truth.
        t: variances of the perturbation.
        draws: M.
        grid: weights at which losses are evaluated.
        seeds: of data and draws.
    """

    rows: int = 4096
    weight: float = 0.2
    t: Sequence[float] = (2.0, 4.0, 8.0, 32.0)
    draws: int = 64
    grid: int = 49
    seeds: Sequence[int] = (0, 1, 2)

    def __post_init__(self) -> None:
        for name in ("rows", "draws", "grid"):
            require_positive_int(name, getattr(self, name))
        require_positive("weight", self.weight)
        if not self.weight < 1:
            raise ValueError(f"weight must be a share between 0 and 1, got {self.weight!r}")
        require_each("t", self.t, require_positive)
        require_seeds(self.seeds)

    def run(self) -> tuple[dict[str, Any], Figure]:
        """Figures (minimiser and height of every loss's curve) and the picture."""
        weights = np.linspace(0.02, 0.98, self.grid)
        curves: dict[str, list[np.ndarray]] = {}
        for seed in self.seeds:
            for name, losses in self._losses(weights, seed).items():
                curves.setdefault(name, []).append(losses - losses.min())
        figures = {
            name: {
                "minimiser": [float(weights[c.argmin()]) for c in rows],
                "rise_at_half": [float(c[np.abs(weights - 0.5).argmin()]) for c in rows],
            }
            for name, rows in curves.items()
        }
        picture = plotting.curves(
            {name: (weights, np.stack(rows)) for name, rows in curves.items()},
            x_label="weight of the left mode in the model",
            y_label="loss above its minimum (nats)",
            title=f"Who sees the weight of a far mode? (truth {self.weight})",
            reference={"truth": ("vertical", self.weight)},
        )
        return figures, picture

    def _losses(self, weights: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        generator = torch.Generator().manual_seed(seed)
        x = _model(self.weight).sample(self.rows, generator=generator)
        models = [_model(float(w)) for w in weights]
        losses = {
            "score matching": np.array([_score_matching(m, x) for m in models]),
            "maximum likelihood": np.array([float(m(x).mean()) for m in models]),
        }
        for t in self.t:
            # the same noise for every model: their losses differ by the model alone
            losses[f"ED, t = {t:g}"] = np.array([self._discrepancy(m, x, t, seed) for m in models])
        return losses

    def _discrepancy(self, model: GaussianMixture, x: Tensor, t: float, seed: int) -> float:
        noise = torch.Generator().manual_seed(1000 + seed)
        with torch.no_grad():
            result = energy_discrepancy(
                model, x, perturbation=Gaussian(t=t), draws=self.draws, w=1.0, chunk=16, generator=noise
            )
        return float(result.values.mean())


def _model(weight: float) -> GaussianMixture:
    means = torch.tensor([[-5.0], [5.0]], dtype=torch.float64)
    return GaussianMixture(means, 1.0, torch.tensor([weight, 1 - weight], dtype=torch.float64))


def _score_matching(model: GaussianMixture, x: Tensor) -> float:
    """Hyvarinen's objective in one dimension: half the squared slope of E minus its curvature."""
    x = x.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), x)
    return float((0.5 * slope.detach().square() - curvature).mean())
