"""From settings to VERA: the generator, its game with the energy, and its samples in the data's units."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..energies import Coordinates, Gaussian
from ..engine import OptimizerSettings
from ..engine.seeding import mixed_seed
from ..entropy import EntropyEstimator, ImportancePosterior, LocalVolume, PriorBank
from ..generators import LatentGenerator, ResidualGenerator
from ..objectives import VERA, WeightedNegatives
from .errors import UsageError
from .models import Model
from .settings import TrainSettings, VeraSettings

__all__ = ["DataGenerator", "built_vera", "empty_generator", "optimizers", "resolved"]

_ROWS_AT_A_TIME = 8192
_SIGMA = 0.1  # at the start, and where it is held, in units of the data's spread
_SIGMA_BOUNDS = (0.01, 0.3)


class DataGenerator(nn.Module):
    """A generator of scaled rows and the way back from them.

    Args:
        generator: of rows in scaled coordinates.
        coordinates: the scaling, or ``None`` where rows are taken as they are.
    """

    def __init__(self, generator: LatentGenerator, coordinates: Coordinates | None) -> None:
        super().__init__()
        self.generator = generator
        self.coordinates = coordinates

    @torch.no_grad()
    def sample(self, rows: int, /, *, generator: torch.Generator | None = None) -> Tensor:
        """Rows in the data's units, ``(rows, dim)`` float64: a large offset must not eat a small spread."""
        drawn = torch.empty(rows, self.generator.dim, dtype=torch.float64)
        for part in drawn.split(_ROWS_AT_A_TIME):
            scaled = self.generator.sample(len(part), generator=generator).x.double()
            part.copy_(scaled if self.coordinates is None else self.coordinates.inverse(scaled))
        return drawn


def resolved(settings: TrainSettings, event_shape: tuple[int, ...]) -> TrainSettings:
    """The settings with what VERA chooses by the data's shape written out, for the run's config.

    Raises:
        UsageError: settings that do not suit the data or one another.
    """
    if settings.method != "vera":
        return settings
    if len(event_shape) != 1:
        raise UsageError(
            f"method vera is for flat rows, and these are images of shape {event_shape}; train with --method ed, or in "
            "Python by chainfree.objectives.VERA with a chainfree.generators.DeconvGenerator"
        )
    vera = settings.vera.resolved(event_shape[0])
    if settings.compile and vera.gradient_penalty:
        raise UsageError("torch.compile cannot take the gradient penalty's second derivative; leave --compile out")
    return replace(settings, vera=vera)


def built_vera(settings: TrainSettings, scaled: Tensor, model: Model) -> VERA:
    """The game, for scaled training rows ``(N, dim)``."""
    vera, features = settings.vera.resolved(scaled.shape[1]), scaled.shape[1]
    centre, variance = torch.zeros(features), torch.ones(features)
    if model.coordinates is None:
        centre, variance = scaled.mean(0), scaled.var(0, correction=0)
        # a feature that hardly varies (a pixel of the margin) is still a direction to be wide in
        variance = variance.clamp_min(0.01 * float(variance.mean()))
    generator = _generator(vera, features, settings.seed, scale=float(variance.mean().sqrt()), centre=centre)
    negatives = None
    if vera.weighted:
        wide = Gaussian(centre, torch.diag(vera.wide**2 * variance))
        negatives = WeightedNegatives(defensive=wide, share=vera.share, covering=vera.covering)
    return VERA(
        generator,
        entropy=_entropy(vera, generator),
        entropy_weight=vera.entropy_weight,
        gradient_penalty=vera.gradient_penalty or 0.0,
        negatives=negatives,
        samples=vera.samples,
    )


def empty_generator(settings: TrainSettings, event_shape: tuple[int, ...]) -> DataGenerator:
    """A generator of the same shape, for saved weights to be loaded into."""
    features = event_shape[0]
    coordinates = None if settings.scaling == "none" else Coordinates(features)
    return DataGenerator(_generator(settings.vera.resolved(features), features, settings.seed), coordinates)


def optimizers(settings: TrainSettings, players: Iterable[str]) -> dict[str, OptimizerSettings]:
    """The energy's optimizer, and the same at the generator's rate for the others."""
    given = settings.optimizer
    other = given if settings.vera.lr is None else replace(given, lr=settings.vera.lr)
    return {player: given if player == "energy" else other for player in players}


def _generator(
    vera: VeraSettings, features: int, seed: int, *, scale: float = 1.0, centre: Tensor | None = None
) -> ResidualGenerator:
    low, high = _SIGMA_BOUNDS
    # initial weights come from torch's global generator, so it is lent a seed, not the energy's, and given back
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mixed_seed(seed, 1))
        generator = ResidualGenerator(
            vera.latent,
            features,
            scale=scale,
            width=vera.width,
            depth=vera.depth,
            frequencies=vera.frequencies,
            sigma=_SIGMA * scale,
            sigma_bounds=(low * scale, high * scale),
            seed=seed % 2**63,
        )
    if centre is not None:
        last = generator.perceptron[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.bias.copy_(centre)
    return generator


def _entropy(vera: VeraSettings, generator: LatentGenerator) -> EntropyEstimator:
    if vera.entropy == "bank":
        return PriorBank()
    return LocalVolume(generator.latent_dim) if vera.entropy == "local" else ImportancePosterior(generator.latent_dim)
