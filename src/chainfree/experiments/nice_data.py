"""The data of :mod:`chainfree.experiments.nice_mnist`: standardised logits, and what a likelihood of theirs means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..datasets import DequantisedBatches, LogitTransform, dequantise, load_mnist, train_held_out_split
from ..energies import Gaussian

__all__ = ["NiceData", "StandardisedLogits", "mean_log_prob", "nice_data"]

_CHUNK = 1000  # rows evaluated at a time
_START_ROWS = 10_000
_LOOKED_AT = 2000  # of the validation rows: enough to choose by, and a look stays short


@dataclass(frozen=True, kw_only=True, eq=False)
class StandardisedLogits(LogitTransform):
    """Logits less their mean over their deviation, pixel by pixel.

    Logits of mostly black images are far from zero, all in one direction, which a perceptron sees as one huge feature, and
    their deviations differ tenfold: every method then learns slowly or not at all.

    Args:
        mean, deviation: ``(D,)``.
    """

    mean: Tensor
    deviation: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Pixels in [0, 1] to standardised logits, ``(B, D)``."""
        return (super().forward(x) - self.mean) / self.deviation

    def inverse(self, z: Tensor) -> Tensor:
        """Standardised logits to pixels, ``(B, D)``."""
        return super().inverse(z * self.deviation + self.mean)

    def log_abs_det(self, x: Tensor) -> Tensor:
        """The logarithm of the volume change in nats, ``(B, D) -> (B,)``."""
        return super().log_abs_det(x) + self.to_standard

    @property
    def to_standard(self) -> float:
        """The part of it from logits to standardised ones: what a log-likelihood in logits has more."""
        return -float(self.deviation.double().log().sum())


@dataclass(frozen=True)
class NiceData:
    """What a run reads: bytes to train on, and standardised logits.

    Args:
        train: ``(N, D)`` uint8.
        start: the rows that starts are made of, on the CPU.
        validation, test: the rows that are looked at during training and at the end.
        transform: from pixels in [0, 1].
        volume: mean log-volume from test pixels in [0, 1] to logits, in nats.
    """

    train: Tensor
    start: Tensor
    validation: Tensor
    test: Tensor
    transform: StandardisedLogits
    volume: float

    def batches(self, size: int, seed: int) -> DequantisedBatches:
        """The training stream."""
        return DequantisedBatches(self.train, transform=self.transform, size=size, seed=seed)

    def in_logits(self, log_likelihood: float) -> float:
        """A log-likelihood of standardised logits, as one of logits: the literature's."""
        return log_likelihood + self.transform.to_standard

    def normals(self) -> dict[str, float]:
        """Test log-likelihoods in logits of normals fitted to the rows that starts are made of."""
        rows, test = self.start.double(), self.test.cpu().double()
        mean, covariance = rows.mean(0), torch.cov(rows.T)
        fits = {"independent pixels": covariance.diagonal().diag(), "full covariance": covariance}
        return {
            f"normal, {name}": self.in_logits(mean_log_prob(Gaussian(mean, fit), test)) for name, fit in fits.items()
        }


def nice_data(*, alpha: float, validation: int, device: str) -> NiceData:
    """MNIST, split and standardised; the noise of what is looked at is drawn once, the same for every method.

    Args:
        alpha: of :class:`chainfree.datasets.LogitTransform`.
        validation: training images that are held out.
        device: where training and evaluation rows go.

    Raises:
        ValueError: a validation set that leaves nothing.
    """
    images = load_mnist("train").x.flatten(1)
    if not validation < len(images):
        raise ValueError(f"validation must leave some of the {len(images)} images, got {validation!r}")
    train, held_out = train_held_out_split(len(images), validation / len(images), 0)
    start = _dequantised(images[train[:_START_ROWS]], 1)
    logits = LogitTransform(alpha=alpha)
    deviation, mean = torch.std_mean(logits.forward(start), dim=0)
    deviation = deviation.clamp_min(1e-6)  # dequantised pixels always vary; other rows may not
    transform = StandardisedLogits(alpha=alpha, mean=mean.to(device), deviation=deviation.to(device))
    test = _dequantised(load_mnist("test").x.flatten(1), 3)
    looked_at = _dequantised(images[held_out[:_LOOKED_AT]], 2)
    return NiceData(
        train=images[train].to(device),
        start=transform.forward(start.to(device)).cpu(),
        validation=transform.forward(looked_at.to(device)),
        test=transform.forward(test.to(device)),
        transform=transform,
        volume=float(logits.log_abs_det(test).double().mean()),
    )


@torch.no_grad()
def mean_log_prob(density: Any, x: Tensor) -> float:
    """Nats a row, in double precision over chunks."""
    return float(torch.cat([density.log_prob(rows).double() for rows in x.split(_CHUNK)]).mean())


def _dequantised(x: Tensor, seed: int) -> Tensor:
    return dequantise(x, generator=torch.Generator().manual_seed(seed))
