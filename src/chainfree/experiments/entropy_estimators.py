"""The entropy estimators that are compared, and how far an estimated gradient is from the true one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Parameter

from ..entropy import (
    EntropyEstimator,
    HMCPosterior,
    ImportancePosterior,
    LearnedPosterior,
    LocalVolume,
    PreconditionedSteps,
    PriorBank,
)
from ..generators import Draw, LatentGenerator

__all__ = [
    "DEFAULT",
    "PAPER",
    "Projection",
    "banks",
    "estimators",
    "flat_gradient",
    "gradient",
    "mean_gradient",
    "projection",
    "seeded",
    "set_scale",
    "settle",
    "tune",
    "volumes",
]

PAPER = "20 weighted draws (paper)"
_BANK_ROWS = 256  # at a time: the cost grows with the product of rows and bank
DEFAULT = f"local volume, {LocalVolume(1).iterations} iterations"


def estimators(scale: Tensor) -> dict[str, EntropyEstimator]:
    """By name; the posteriors that learn a scale have this one, ``(latent_dim,)``.

    The control variate leaves expectations as they are; the paper has none.
    """
    k, least = len(scale), float(scale.min())
    learned: dict[str, LearnedPosterior] = {
        PAPER: ImportancePosterior(k, chunk=10),
        "20 weighted draws, control variate": ImportancePosterior(k, chunk=10, control_variate=True),
        "100 weighted draws": ImportancePosterior(k, draws=100, chunk=10),
        "5 gradient steps": PreconditionedSteps(k),
        "20 gradient steps": PreconditionedSteps(k, steps=20),
        "20 Langevin steps": PreconditionedSteps(k, steps=20, kind="langevin"),
        "1 gradient step, 20 draws": PreconditionedSteps(k, steps=1, draws=20, chunk=10),
    }
    for posterior in learned.values():
        set_scale(posterior, scale)
    return {
        **learned,
        "HMC, 2 + 2 transitions": HMCPosterior(step_size=least).to(scale.dtype),
        **volumes(scale, 1, 2, 3, 4),
    }


def volumes(scale: Tensor, *iterations: int) -> dict[str, LocalVolume]:
    """By name, the default among them; of as many latents as ``scale`` and of its type."""
    wanted = sorted({*iterations, LocalVolume(1).iterations})
    return {
        f"local volume, {n} iteration{'s' * (n > 1)}": LocalVolume(len(scale), iterations=n).to(scale.dtype)
        for n in wanted
    }


def banks(*sizes: int) -> dict[str, PriorBank]:
    """By name; each row sees a bank of this many means, in :func:`mean_gradient`."""
    return {f"prior bank of {size:,}": PriorBank(extra=size - _BANK_ROWS) for size in sizes}


def settle(estimator: EntropyEstimator, net: LatentGenerator, *, calls: int, rows: int, seed: int) -> None:
    """Let what an estimator carries from call to call reach its rest, and hold it there; a posterior's scale is given."""
    generator = seeded(seed, 77)
    if isinstance(estimator, HMCPosterior):
        for _ in range(max(1, calls // (estimator.burn_in + estimator.keep))):
            estimator.reconstruct(net, net.sample(rows, generator=generator), generator)
    elif isinstance(estimator, LocalVolume):
        for _ in range(calls):
            estimator(net, net.sample(rows, generator=generator), generator=generator)
        estimator.eval()


def set_scale(posterior: LearnedPosterior, scale: Tensor) -> None:
    """Give a posterior this scale, and its type."""
    posterior.to(scale.dtype)
    with torch.no_grad():
        posterior.log_scale.copy_(scale.log())


def seeded(*numbers: int) -> torch.Generator:
    """A generator for each tuple of small numbers."""
    seed = 0
    for number in numbers:
        seed = 1_000_003 * seed + number
    return torch.Generator().manual_seed(seed % 2**62)


def tune(net: LatentGenerator, *, steps: int, rows: int, seed: int, lr: float = 0.02) -> Tensor:
    """The scale that Adam finds by the one-draw bound, starting from the paper's 0.1."""
    posterior = ImportancePosterior(net.latent_dim).to(net.log_sigma.dtype)
    optimizer = torch.optim.Adam(posterior.parameters(), lr=lr)
    generator = seeded(seed, 78)
    for step in range(steps):
        with torch.no_grad():
            draw = net.sample(rows, generator=generator)
        for group in optimizer.param_groups:  # to zero, so that the last steps' noise is averaged out
            group["lr"] = lr * (1 - step / steps)
        optimizer.zero_grad()
        posterior.loss(net, draw, generator).backward(inputs=list(posterior.parameters()))
        optimizer.step()
    return posterior.scale.detach()


def gradient(
    estimator: EntropyEstimator, net: LatentGenerator, parameters: Sequence[Parameter], *, rows: int, seed: int
) -> Tensor:
    """The estimated gradient over ``rows`` fresh samples, one vector."""
    generator = seeded(seed, 1)
    draw = net.sample(rows, generator=generator)
    return mean_gradient(estimator, net, draw, parameters, generator=generator)


def mean_gradient(
    estimator: EntropyEstimator,
    net: LatentGenerator,
    draw: Draw,
    parameters: Sequence[Parameter],
    *,
    generator: torch.Generator,
) -> Tensor:
    """The same over this draw; its graph stays. Banks see few rows at a time, and many means."""
    if not isinstance(estimator, PriorBank):
        surrogate = estimator(net, draw, generator=generator).surrogate.mean()
        return flat_gradient(surrogate, parameters, keep=True)
    total = torch.zeros(())
    for rows in torch.arange(len(draw.z)).split(_BANK_ROWS):
        part = Draw(draw.x[rows], draw.z[rows], draw.mean[rows], draw.noise[rows])
        surrogate = estimator(net, part, generator=generator).surrogate.sum() / len(draw.z)
        total = total + flat_gradient(surrogate, parameters, keep=True)
    return total


def flat_gradient(value: Tensor, parameters: Sequence[Parameter], *, keep: bool = False) -> Tensor:
    """The gradient of a scalar as one vector; zero where nothing leads. ``keep`` keeps the graph."""
    found = torch.autograd.grad(value, list(parameters), allow_unused=True, retain_graph=keep)
    parts = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
    return torch.cat([part.flatten() for part in parts])


@dataclass(frozen=True)
class Projection:
    """How an estimated gradient lies to the true one.

    Args:
        value: its projection on the truth in units of the truth: 1 is right.
        standard_error: of ``value``.
        aside: norm of what is orthogonal to the truth, in units of the truth's.
        cosine: of the angle between both, or 0 where the estimate is lost in its noise.
    """

    value: float
    standard_error: float
    aside: float
    cosine: float

    def as_figures(self) -> dict[str, float]:
        """For the record."""
        return {
            "projection": round(self.value, 4),
            "standard_error": round(self.standard_error, 4),
            "aside": round(self.aside, 4),
            "cosine": round(self.cosine, 4),
        }


def projection(estimated: Tensor, truth: Tensor) -> Projection:
    """Compare mean gradients through independent repetitions of them, ``(R, P)`` with R at least 3.

    Only products of different repetitions are averaged, so that no square of noise enters (a U-statistic), also where the
    truth is itself an estimate on the same rows; the standard error is the jackknife's.

    Args:
        estimated: a row for each repetition.
        truth: the same, or one exact vector ``(P,)``.
    """
    truth = truth.expand_as(estimated)
    both, own, true = estimated @ truth.T, estimated @ estimated.T, truth @ truth.T
    repetitions = len(estimated)
    value = float(_off_diagonal(both) / _off_diagonal(true))
    left_out = _left_out(both) / _left_out(true)
    spread = (left_out - left_out.mean()).square().sum()
    error = math.sqrt((repetitions - 1) / repetitions * float(spread))
    square = float(_off_diagonal(own) / _off_diagonal(true))
    cosine = value / math.sqrt(square) if square > 0 else 0.0
    return Projection(value, error, math.sqrt(max(0.0, square - value**2)), max(-1.0, min(1.0, cosine)))


def _off_diagonal(products: Tensor) -> Tensor:
    """Mean of the products of different repetitions."""
    n = len(products)
    return (products.sum() - products.diagonal().sum()) / (n * (n - 1))


def _left_out(products: Tensor) -> Tensor:
    """The same without each repetition in turn, ``(R,)``."""
    n, diagonal = len(products), products.diagonal()
    kept = products.sum() - products.sum(0) - products.sum(1) + diagonal
    return (kept - (diagonal.sum() - diagonal)) / ((n - 1) * (n - 2))
