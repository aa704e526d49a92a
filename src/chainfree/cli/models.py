"""From settings to energies, fitted or empty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from sklearn.mixture import GaussianMixture as SklearnMixture
from torch import Tensor, nn

from ..checks import energy_values
from ..datasets import DataError
from ..energies import (
    MLP,
    ConvNet,
    Coordinates,
    FourierMLP,
    Gaussian,
    GaussianMixture,
    InCoordinates,
    ResNet,
    Tilted,
)
from .errors import UsageError
from .settings import BaseSettings, NetworkSettings, TrainSettings

__all__ = ["Model", "empty_model", "fitted_model"]


@dataclass(frozen=True, eq=False)
class Model:
    """An energy in scaled coordinates and the way there from the data.

    Args:
        energy: what is trained, a function of the scaled rows.
        coordinates: the scaling, or ``None`` where rows are taken as they are.
    """

    energy: nn.Module
    coordinates: Coordinates | None

    def scaled(self, x: Tensor) -> Tensor:
        """Rows as the energy wants them, float32."""
        return (x if self.coordinates is None else self.coordinates(x)).float()

    def __call__(self, x: Tensor) -> Tensor:
        """Energy of unscaled rows of any floating type in nats, ``(B, *event) -> (B,)``.

        The same function as :meth:`in_data_units`; but float64 rows keep their digits until they are scaled.
        """
        values = energy_values(self.energy, self.scaled(x))
        return values if self.coordinates is None else values - self.coordinates.log_abs_det(x)

    def in_data_units(self, energy: nn.Module | None = None) -> nn.Module:
        """The energy (or another one of the same coordinates) as a function of unscaled rows."""
        energy = self.energy if energy is None else energy
        return energy if self.coordinates is None else InCoordinates(energy, self.coordinates)


def fitted_model(settings: TrainSettings, train: Tensor, names: Sequence[str] | None) -> Model:
    """Scale by the training rows and fit the base to them; the network starts at random, or at zero over a base.

    Raises:
        DataError: rows that cannot be scaled or fitted.
        UsageError: settings that do not suit the data.
    """
    flat = train.dim() == 2
    coordinates = None
    try:
        if flat and settings.scaling != "none":
            coordinates = _fitted_coordinates(settings, train, names)
        network = _network(settings.network, tuple(train.shape[1:]), settings.seed)
        if not flat and settings.base.kind not in ("auto", "none"):
            raise UsageError(f"base.kind {settings.base.kind!r} is for flat rows, not for images; use auto")
        if not _has_base(settings.base, flat):
            return Model(network, coordinates)
        scaled = Model(network, coordinates).scaled(train)
        return Model(Tilted(_fitted_base(settings.base, scaled, settings.seed), network), coordinates)
    except UsageError:
        raise
    except ValueError as error:
        raise DataError(" ".join(str(error).split())) from error


def empty_model(settings: TrainSettings, event_shape: tuple[int, ...]) -> Model:
    """A model of the same shape, for saved weights to be loaded into."""
    flat = len(event_shape) == 1
    coordinates = Coordinates(event_shape[0]) if flat and settings.scaling != "none" else None
    network = _network(settings.network, event_shape, settings.seed)
    if not _has_base(settings.base, flat):
        return Model(network, coordinates)
    dim, components = event_shape[0], settings.base.components
    base: Gaussian | GaussianMixture
    if settings.base.kind == "mixture":
        base = GaussianMixture(torch.zeros(components, dim), torch.eye(dim).expand(components, dim, dim))
    else:
        base = Gaussian(torch.zeros(dim))
    return Model(Tilted(base, network), coordinates)


def _has_base(settings: BaseSettings, flat: bool) -> bool:
    return flat and settings.kind != "none"


def _fitted_coordinates(settings: TrainSettings, train: Tensor, names: Sequence[str] | None) -> Coordinates:
    try:
        return Coordinates.fit(train, heavy_tails=settings.scaling == "auto", names=names)
    except ValueError as error:
        # columns without names cannot be dropped
        hint = "" if names else ", or take the rows as they are: --scaling none"
        raise DataError(f"{error}{hint}") from error


def _fitted_base(settings: BaseSettings, scaled: Tensor, seed: int) -> Gaussian | GaussianMixture:
    if settings.kind != "mixture":
        return Gaussian.fit(scaled)
    if len(scaled) < settings.components:
        raise UsageError(f"{len(scaled)} rows cannot hold base.components={settings.components}; lower it")
    mixture = SklearnMixture(
        settings.components, reg_covar=settings.regularisation, random_state=seed % 2**32, max_iter=300
    )
    return GaussianMixture.from_sklearn(mixture.fit(scaled.double().numpy()))


def _network(settings: NetworkSettings, event_shape: tuple[int, ...], seed: int) -> nn.Module:
    kind = settings.kind
    if kind == "auto":
        kind = "conv" if len(event_shape) == 3 else "fourier" if event_shape[0] <= 3 else "mlp"
    if (kind in ("conv", "resnet")) != (len(event_shape) == 3):
        raise UsageError(f"network.kind {kind!r} does not suit rows of shape {event_shape}; use auto")
    # the network's initial weights come from torch's global generator, so it is lent a seed and given back
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "mlp":
            return MLP(
                event_shape[0],
                width=settings.width,
                depth=settings.depth,
                activation=settings.activation,
                spectral_norm=settings.spectral_norm,
            )
        if kind == "fourier":
            return FourierMLP(
                event_shape[0],
                features=settings.frequencies,
                scale=settings.frequency_scale,
                width=settings.width,
                depth=settings.depth,
                activation=settings.activation,
                seed=seed,
            )
        channels, height = event_shape[0], event_shape[1]
        if kind == "conv":
            return ConvNet(
                channels=channels,
                size=height,
                widths=settings.channels,
                activation=settings.activation,
                spectral_norm=settings.spectral_norm,
            )
        return ResNet(
            channels=channels,
            widths=settings.channels,
            blocks=settings.blocks,
            activation=settings.activation,
            spectral_norm=settings.spectral_norm,
        )
