"""The way from one image to another, through their latents and through their pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ... import plotting
from ...checks import require_positive_int
from ...datasets import scaled_pixels
from ...evaluation import frechet_distance, image_features, train_image_classifier
from ..checks import require_seeds
from .methods import LatentMethod, LatentNetworks, latent_methods
from .runs import Run, Schedule, images_for, require_data, trained

__all__ = ["LatentInterpolation"]


@dataclass(frozen=True, kw_only=True)
class LatentInterpolation:
    """Settings of the experiment: one model, and pairs of test images.

    The middle of a way is judged by the Fréchet distance of many of them from images that are in no pair. Ways are great
    circles of latents, straight lines of latents, and straight lines of pixels.

    Args:
        data: ``mnist`` or ``fashion_mnist``.
        method: settings of :class:`LatentMethod`.
        networks: settings of :class:`LatentNetworks`.
        schedule: settings of :class:`Schedule`.
        shown: pairs in the picture, of different classes, each with the way through its latents and that through its pixels.
        points: of a way, with both ends.
        judged: pairs whose middles are judged, at most; a quarter of the test images are in one.
        seeds: one.
    """

    data: str = "mnist"
    method: Mapping[str, Any] = field(default_factory=dict)
    networks: Mapping[str, Any] = field(default_factory=dict)
    schedule: Mapping[str, Any] = field(default_factory=dict)
    shown: int = 6
    points: int = 11
    judged: int = 1000
    seeds: Sequence[int] = (0,)

    def __post_init__(self) -> None:
        require_data(self.data, "test")
        latent_methods({"method": self.method})
        LatentNetworks(**self.networks)
        Schedule(**self.schedule)
        for name in ("shown", "points", "judged"):
            require_positive_int(name, getattr(self, name))
        if self.points < 3:
            raise ValueError(f"points must be at least 3, got {self.points!r}; there is no way without a middle")
        require_seeds(self.seeds)
        if len(self.seeds) != 1:
            raise ValueError(f"this recipe runs one seed at a time, got {list(self.seeds)!r}")

    def run(self) -> tuple[dict[str, Any], Figure]:
        """Distances of middles from images, energies along the ways, and the ways as rows of images."""
        seed = self.seeds[0]
        train, test = images_for(self.data, "test")
        classifier = train_image_classifier(train.x, train.y, seed=seed)
        run = trained(
            scaled_pixels(train.x),
            LatentMethod(**self.method),
            LatentNetworks(**self.networks),
            Schedule(**self.schedule),
            seed=seed,
        )
        source = torch.Generator().manual_seed(seed)
        first, second, rest = _pairs(test.y, self.judged, source)
        x, y = scaled_pixels(test.x[first]), scaled_pixels(test.x[second])
        real = image_features(classifier, scaled_pixels(test.x[rest]))
        way = run.model.interpolate(x, y, run.posterior, points=3, generator=source)
        straight = 0.5 * (way.latents[0] + way.latents[2])
        middles = {
            "latents": way.rows[1],
            "latents, straight": torch.cat([run.model.mean(z).detach() for z in straight.split(256)]),
            "pixels": 0.5 * (x + y),
        }
        energies = way.energies.double().mean(1)
        figures = {
            "frechet_of_middle": {
                name: frechet_distance(real, image_features(classifier, middle)) for name, middle in middles.items()
            },
            "judged": len(x),
            "frechet_of_images": frechet_distance(real, image_features(classifier, scaled_pixels(train.x[: len(x)]))),
            "frechet_of_ends": frechet_distance(real, image_features(classifier, way.rows[0])),
            "energy": {"start": float(energies[0]), "middle": float(energies[1]), "end": float(energies[2])},
            "seconds": run.seconds,
            "trained_on": Schedule(**self.schedule).trained_on,
            "settings": {**asdict(self), "seeds": list(self.seeds)},
        }
        return figures, self._picture(run, x[: self.shown], y[: self.shown], source)

    def _picture(self, run: Run, x: Tensor, y: Tensor, source: torch.Generator) -> Figure:
        """Two rows for each pair: the way through its latents and that through its pixels, with the images at the ends."""
        latents = run.model.interpolate(x, y, run.posterior, points=self.points, generator=source).rows
        shares = torch.linspace(0, 1, self.points).view(-1, *(1 for _ in x.shape))
        pixels = torch.lerp(x, y, shares)
        ways = [torch.cat([x[None], way, y[None]]) for way in (latents, pixels)]
        rows = torch.stack(ways).permute(2, 0, 1, 3, 4, 5).flatten(0, 2)  # pair by pair
        return plotting.image_grid(
            rows,
            columns=self.points + 2,
            low=-1.0,
            high=1.0,
            row_names=len(x) * ["latents", "pixels"],
            title="From one image to another, through its latents and through its pixels",
        )


def _pairs(y: Tensor, n: int, source: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Places of at most ``n`` pairs of images of different classes, from a quarter of all, and those of the others."""
    order = torch.randperm(len(y), generator=source)
    quarter = len(order) // 8
    first, second, rest = order[:quarter], order[quarter : 2 * quarter], order[2 * quarter :]
    differ = y[first] != y[second]
    return first[differ][:n], second[differ][:n], rest
