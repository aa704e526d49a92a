"""Bias and variance of entropy estimators on a linear generator of principal components: the paper's own experiment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..entropy import (
    EntropyEstimator,
    HMCPosterior,
    ImportancePosterior,
    LearnedPosterior,
    LocalVolume,
    PreconditionedSteps,
)
from ..generators import LinearGenerator
from .entropy_estimators import flat_gradient, gradient, projection, seeded, set_scale, settle, tune, volumes

__all__ = ["entropy_on_pca"]

_ADAPTATION = 100  # transitions of a Markov chain, for its step size
_DEAR = 500  # passes: an estimator that takes more is repeated a quarter as often


def entropy_on_pca(
    net: LinearGenerator, *, points: int, repeats: int, tuning: int, kept: Sequence[int], seed: int
) -> dict[str, Any]:
    """Bias and deviation, in units of the truth's norm, of the score at fixed samples and of the gradient of a batch.

    Args:
        net: the generator.
        points: samples; the size of a batch.
        repeats: estimates of the score at every sample; batches.
        tuning: steps of Adam for the posterior's scale, and calls of the local volume for its preconditioner.
        kept: transitions of Markov chains that are averaged, after two that are not.
        seed: of everything.
    """
    scale = tune(net, steps=tuning, rows=points, seed=seed)
    best = 1 / torch.sqrt(1 + net.weight.detach().square().sum(0) / net.sigma.detach().square())
    exact = flat_gradient(net.entropy(), [net.weight])
    found: dict[str, Any] = {}
    for name, estimator in _candidates(scale, kept).items():
        calls = _ADAPTATION if isinstance(estimator, HMCPosterior) else tuning
        settle(estimator, net, calls=calls, rows=points, seed=seed)
        times = repeats if estimator.passes <= _DEAR else max(3, repeats // 4)
        # fresh samples every time: a generator's gradient is over them too
        batches = [gradient(estimator, net, [net.weight], rows=points, seed=1000 * seed + r) for r in range(times)]
        stacked = torch.stack(batches)
        passed = projection(stacked, exact)
        figures = {
            "passes": float(estimator.passes),
            "repeats": times,
            "projection": round(passed.value, 4),
            "standard_error": round(passed.standard_error, 4),
            "gradient_bias": round(math.hypot(1 - passed.value, passed.aside), 4),
            "gradient_deviation": round(float(stacked.var(0).sum().sqrt() / exact.norm()), 4),
        }
        if not isinstance(estimator, LocalVolume):  # it makes no score
            figures |= _score(estimator, net, points=points, repeats=times, seed=seed)
        found[name] = figures
    return {
        "sigma": round(float(net.sigma.detach()), 4),
        "tuned_scale_over_best": [round(float(edge), 3) for edge in torch.aminmax(scale / best)],
        "estimators": found,
    }


def _candidates(scale: Tensor, kept: Sequence[int]) -> dict[str, EntropyEstimator]:
    k, least = len(scale), float(scale.min())
    learned: dict[str, LearnedPosterior] = {
        **{f"{n} weighted draw{'s' * (n > 1)}": ImportancePosterior(k, draws=n, chunk=10) for n in (1, 5, 20, 100)},
        **{f"{n} gradient steps": PreconditionedSteps(k, steps=n) for n in (5, 20)},
    }
    for posterior in learned.values():
        set_scale(posterior, scale)
    return {
        **learned,
        **{f"HMC, 2 + {n} transitions": HMCPosterior(keep=n, step_size=least).to(scale.dtype) for n in kept},
        **volumes(scale, 1, 2, 3, 4, 8),
    }


@torch.no_grad()
def _score(
    estimator: EntropyEstimator, net: LinearGenerator, *, points: int, repeats: int, seed: int
) -> dict[str, float]:
    """Of the score at the same samples and latents every time."""
    assert isinstance(estimator, LearnedPosterior | HMCPosterior)
    draw = net.sample(points, generator=seeded(seed, 2))
    posterior_mean = net(net.posterior_mean(draw.x))
    variance = net.sigma.square()
    truth = (posterior_mean - draw.x) / variance
    total, squares = torch.zeros_like(truth), torch.zeros_like(truth)
    for repeat in range(repeats):
        values = estimator.reconstruct(net, draw, seeded(seed, 3, repeat)).values
        error = (values - posterior_mean) / variance
        total += error
        squares += error.square()
    mean = total / repeats
    spread = (squares / repeats - mean.square()).clamp_min(0) * repeats / (repeats - 1)
    norm = truth.square().sum()
    # the mean of R estimates has an R-th of their variance, which is no bias
    bias = (mean.square() - spread / repeats).sum().clamp_min(0)
    return {
        "score_bias": round(float((bias / norm).sqrt()), 4),
        "score_deviation": round(float((spread.sum() / norm).sqrt()), 4),
    }
