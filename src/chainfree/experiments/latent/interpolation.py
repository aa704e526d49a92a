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
from .runs import Schedule, images_for, require_data, trained

__all__ = ["LatentInterpolation"]


@dataclass(frozen=True, kw_only=True)
class LatentInterpolation:
    """Settings of the experiment: one model, and pairs of test images.

    The middle of a way is judged by the Fréchet distance of many of them from images: the middle of two images is none.

    Args:
        data: ``mnist`` or ``fashion_mnist``.
        method: settings of :class:`LatentMethod`.
        networks: settings of :class:`LatentNetworks`.
        schedule: settings of :class:`Schedule`.
        shown: pairs in the picture, of different classes.
        points: of a way, with both ends.
        judged: pairs whose middles are judged.
        seeds: one.
    """

    data: str = "mnist"
    method: Mapping[str, Any] = field(default_factory=dict)
    networks: Mapping[str, Any] = field(default_factory=dict)
    schedule: Mapping[str, Any] = field(default_factory=dict)
    shown: int = 8
    points: int = 11
    judged: int = 5000
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
        first, second = _pairs(test.y, min(self.judged, len(test) // 2), source)
        x, y = scaled_pixels(test.x[first]), scaled_pixels(test.x[second])
        real = image_features(classifier, scaled_pixels(test.x))
        parts = [
            run.model.interpolate(a, b, run.posterior, points=3, generator=source)
            for a, b in zip(x.split(256), y.split(256), strict=True)
        ]
        middles = {"latents": torch.cat([part.rows[1] for part in parts]), "pixels": 0.5 * (x + y)}
        ends = torch.cat([part.rows[0] for part in parts])
        energies = torch.cat([part.energies for part in parts], 1).double().mean(1)
        figures = {
            "frechet_of_middle": {
                name: frechet_distance(real, image_features(classifier, middle)) for name, middle in middles.items()
            },
            "frechet_of_ends": frechet_distance(real, image_features(classifier, ends)),
            "energy": {"start": float(energies[0]), "middle": float(energies[1]), "end": float(energies[2])},
            "seconds": run.seconds,
            "settings": {**asdict(self), "seeds": list(self.seeds)},
        }
        way = run.model.interpolate(
            x[: self.shown], y[: self.shown], run.posterior, points=self.points, generator=source
        )
        rows = torch.cat([x[: self.shown, None], way.rows.transpose(0, 1), y[: self.shown, None]], 1)
        title = "An image, the way through the latents, another image"
        return figures, plotting.image_grid(
            rows.flatten(0, 1), columns=self.points + 2, low=-1.0, high=1.0, title=title
        )


def _pairs(y: Tensor, n: int, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Places of ``n`` pairs of images of different classes, no image twice in a column."""
    order = torch.randperm(len(y), generator=source)
    first, second = order[: len(order) // 2], order[len(order) // 2 : 2 * (len(order) // 2)]
    differ = y[first] != y[second]
    return first[differ][:n], second[differ][:n]
