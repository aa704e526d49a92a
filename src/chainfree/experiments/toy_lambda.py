"""What the entropy's weight does in the game between an energy and a generator, in the plane.

The toy figure of Grathwohl et al., ICLR 2021, arXiv 2010.04230, and beside it the game with weighted negatives.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from ..batches import batches
from ..checks import require_non_negative, require_positive, require_positive_int
from ..datasets import toy_density
from ..energies import Coordinates, FourierMLP, Gaussian, InCoordinates, Tilted
from ..engine import Engine, OptimizerSettings, TrainingDivergedError
from ..entropy import ImportancePosterior, PriorBank
from ..evaluation import log_z_quadrature, nll_gap
from ..generators import ResidualGenerator
from ..objectives import VERA, WeightedNegatives
from ..plotting.grid import on_grid, planar_grid
from ..plotting.style import DENSITY_MAP, finish, new_figure, style
from ..typing import Density
from .checks import require_each, require_seeds

__all__ = ["ToyLambda"]

_DEFENSIVE = 0.2  # of the negatives
Game = Literal["paper", "weighted"]
_GAMES: Mapping[Game, str] = {"paper": "The paper's\ngame", "weighted": "Weighted\nnegatives"}


@dataclass(frozen=True, kw_only=True)
class ToyLambda:
    """Settings of the experiment.

    Both games have the same energy, generator, learning rate, number of rounds and of negative samples, in coordinates where
    the data have variance 1.

    Args:
        density: a toy density.
        weights: of the entropy, lambda.
        latent_dim: of the generator.
        gradient_penalty: gamma of the paper's game; the other has none.
        samples: negatives a round, at least 2. In the weighted game a fifth of them are from a wide normal.
        rounds, batch, lr: of training by Adam.
        ema: decay of the moving average that is judged.
        deviations: half the side of the box that log Z is integrated over, in standard deviations of the data.
        points: nodes an axis of the integration.
        held_out: rows that the gap is averaged over.
        seeds: of training.
    """

    density: str = "moons"
    weights: Sequence[float] = (0.01, 0.1, 1.0)
    latent_dim: int = 2
    gradient_penalty: float = 0.1
    samples: int = 320
    rounds: int = 3000
    batch: int = 128
    lr: float = 1e-3
    ema: float = 0.998
    deviations: float = 6.0
    points: int = 601
    held_out: int = 20_000
    seeds: Sequence[int] = (0,)

    def __post_init__(self) -> None:
        toy_density(self.density)
        for name in ("latent_dim", "samples", "rounds", "batch", "points", "held_out"):
            require_positive_int(name, getattr(self, name))
        if self.samples < 2:
            raise ValueError(f"samples must be at least 2, for a generator and a wide normal, got {self.samples!r}")
        require_positive("lr", self.lr)
        require_positive("deviations", self.deviations)
        require_non_negative("gradient_penalty", self.gradient_penalty)
        require_non_negative("ema", self.ema)
        if not self.ema < 1:
            raise ValueError(f"ema must be a decay below 1, got {self.ema!r}")
        require_each("weights", self.weights, require_non_negative)
        require_seeds(self.seeds)

    def run(self) -> tuple[dict[str, Any], Figure]:
        """Figures (NLL gap and how training ended, by game and lambda, one a seed) and the picture."""
        density = toy_density(self.density)
        coordinates = Coordinates.fit(density.sample(20_000, generator=_seeded(99)), heavy_tails=False)
        held_out = density.sample(self.held_out, generator=_seeded(10_000))
        figures: dict[str, dict[str, Any]] = {game: {} for game in _GAMES}
        panels = {}
        for game, weight in itertools.product(_GAMES, self.weights):
            gaps, ends = [], []
            for seed in self.seeds:
                trained, ended = self._train(game, weight, seed, density, coordinates)
                log_z = log_z_quadrature(trained, self._bounds(coordinates), points=self.points).value
                gaps.append(nll_gap(trained, log_z, density, held_out))
                ends.append(ended)
                if seed == self.seeds[0]:
                    panels[game, weight] = (trained, log_z)
            figures[game][f"lambda={weight:g}"] = {"nll_gap": gaps, "ended": ends}
        return figures, self._picture(density, coordinates, panels, figures)

    # -- one training run ----------------------------------------------------------------------------------------------

    def _train(
        self, game: Game, weight: float, seed: int, density: Density, coordinates: Coordinates
    ) -> tuple[nn.Module, str]:
        rows = coordinates(density.sample(self.rounds * self.batch, generator=_seeded(seed)))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            energy = Tilted(Gaussian(torch.zeros(2)), FourierMLP(2, seed=seed))
            objective = self._paper(weight) if game == "paper" else self._weighted(weight)
        betas = (0.0, 0.9) if game == "paper" else (0.5, 0.99)
        engine = Engine(
            energy, objective, seed=seed, optimizer=OptimizerSettings(lr=self.lr, betas=betas), ema=self.ema
        )
        try:
            ended = engine.fit(batches(rows, size=self.batch, seed=seed), steps=self.rounds).stopped
        except TrainingDivergedError:
            ended = "diverged"
        return InCoordinates(engine.averaged_energy(), coordinates), ended

    def _paper(self, weight: float) -> VERA:
        return VERA(
            self._generator(),
            entropy=ImportancePosterior(self.latent_dim),
            entropy_weight=weight,
            gradient_penalty=self.gradient_penalty,
            samples=self.samples,
        )

    def _weighted(self, weight: float) -> VERA:
        defensive = max(1, round(self.samples * _DEFENSIVE))
        own = self.samples - defensive
        wide = Gaussian(torch.zeros(2), 4 * torch.eye(2))
        return VERA(
            self._generator(),
            entropy=PriorBank(),
            entropy_weight=weight,
            gradient_penalty=0.0,
            negatives=WeightedNegatives(defensive=wide, share=defensive / own),
            samples=own,
        )

    def _generator(self) -> ResidualGenerator:
        return ResidualGenerator(self.latent_dim, 2)

    # -- the picture ---------------------------------------------------------------------------------------------------

    def _bounds(self, coordinates: Coordinates, *, deviations: float | None = None) -> list[tuple[float, float]]:
        half = self.deviations if deviations is None else deviations
        edges = coordinates.inverse(torch.tensor([[-half, -half], [half, half]])).double()
        return [(float(low), float(high)) for low, high in edges.T]

    def _picture(
        self,
        density: Density,
        coordinates: Coordinates,
        panels: Mapping[tuple[Game, float], tuple[nn.Module, float]],
        figures: Mapping[str, Mapping[str, Any]],
    ) -> Figure:
        across, along = self._bounds(coordinates, deviations=2.6)
        grid = planar_grid((across, along), 240, centres=True)
        truth = np.exp(on_grid(density.log_prob, grid))
        ratio = (along[1] - along[0]) / (across[1] - across[0])
        columns = len(self.weights) + 1
        with style():
            figure = new_figure(2.35 * columns, 2 * (2.2 * min(ratio, 1.6) + 0.35))
            places = figure.subplots(2, columns, sharex=True, sharey=True)
            for line, (game, called) in enumerate(_GAMES.items()):
                _density_panel(places[line, 0], truth, grid.extent, float(truth.max()))
                places[line, 0].set_title("truth")
                places[line, 0].set_ylabel(called, fontweight="bold")
                for place, weight in zip(places[line, 1:], self.weights, strict=True):
                    energy, log_z = panels[game, weight]
                    model = np.exp(np.minimum(-on_grid(energy, grid) - log_z, 50.0))
                    _density_panel(place, model, grid.extent, float(truth.max()))
                    gap = figures[game][f"lambda={weight:g}"]["nll_gap"][0]
                    place.set_title(f"$\\lambda$ = {weight:g}:  {gap:.3f} nats")
            note = (
                "One colour scale, the truth's. Above each panel the held-out negative log-likelihood beyond the truth's, "
                "by quadrature."
            )
            title = f"The entropy's weight on {self.density}, {self.rounds:,} rounds"
            return finish(figure, title, note=note)


def _density_panel(axes: Any, density: np.ndarray[Any, Any], extent: Any, top: float) -> None:
    axes.imshow(density, origin="lower", extent=extent, cmap=DENSITY_MAP, vmin=0, vmax=top)
    axes.set(xticks=[], yticks=[])
    axes.grid(False)


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
