"""How much of the entropy gradient each estimator passes on to the generator's weights, and at what price.

Grathwohl et al., ICLR 2021, arXiv 2010.04230, judge the score of a linear generator, whose error is small beside the part of
the score off the generator's range. Here the gradient that the generator receives is judged too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ..checks import require_positive, require_positive_int
from ..datasets import load_mnist
from ..entropy import EntropyEstimator, HMCPosterior, ImportancePosterior, LocalVolume
from ..generators import LinearGenerator, MLPGenerator
from .checks import require_each, require_seeds
from .entropy_bias_picture import picture
from .entropy_estimators import (
    DEFAULT,
    PAPER,
    Projection,
    adapt,
    estimators,
    flat_gradient,
    gradient,
    projection,
    seeded,
    set_scale,
    tune,
    volumes,
)
from .entropy_mnist import entropy_on_pca

__all__ = ["EntropyBiasVariance"]

_PROBES = 4  # of the local volume on each row of a curved generator: they are cheap beside the chains


@dataclass(frozen=True, kw_only=True)
class EntropyBiasVariance:
    """Settings of the experiment.

    Args:
        sizes: latents and data dimensions of random linear generators, entries ``N(0, 1 / latents)``.
        rows: samples a repetition for each of ``sizes``.
        sigmas: noise scales of the linear generators.
        curved: latents, data dimensions and gain of random tanh perceptrons, weights ``N(0, gain^2 / inputs)``.
        curved_rows: samples a repetition.
        curved_sigma: noise scale of the curved generators.
        wide_sigma: the same where the posterior is as wide as the generator's bends.
        width, depth: of the hidden layers of the curved generators.
        transitions: of the Markov chains that the curved generators' truth is taken from.
        tuning: steps of Adam that fit the posterior's scale where it has no closed form.
        images: of MNIST that principal components are taken of.
        components: of them, latents of the linear generator.
        points: samples whose scores are estimated.
        repeats: estimates of each.
        weights_seed: of the random generators.
        seeds: of the repetitions, at least three.
    """

    sizes: Sequence[Sequence[int]] = ((2, 2), (2, 10), (10, 50), (64, 561), (100, 784))
    rows: Sequence[int] = (25_000, 25_000, 4000, 500, 500)
    sigmas: Sequence[float] = (0.1, 0.3)
    curved: Sequence[Sequence[float]] = ((8, 32, 1.0), (8, 32, 1.5), (2, 10, 2.0))
    curved_rows: int = 1000
    curved_sigma: float = 0.1
    wide_sigma: float = 0.3
    width: int = 32
    depth: int = 2
    transitions: int = 100
    tuning: int = 500
    images: int = 20_000
    components: int = 100
    points: int = 200
    repeats: int = 20
    weights_seed: int = 0
    seeds: Sequence[int] = (0, 1, 2, 3, 4, 5, 6, 7)

    def __post_init__(self) -> None:
        whole = ("curved_rows", "width", "depth", "transitions", "tuning", "images", "components", "points", "repeats")
        for name in whole:
            require_positive_int(name, getattr(self, name))
        for name in ("curved_sigma", "wide_sigma"):
            require_positive(name, getattr(self, name))
        require_each("sigmas", self.sigmas, require_positive)
        _require_tuples("sizes", self.sizes, 2)
        _require_tuples("curved", self.curved, 3)
        for name, values in (("sizes", self.sizes), ("curved", [case[:2] for case in self.curved])):
            for number in (number for case in values for number in case):
                require_positive_int(name, number)  # type: ignore[arg-type]
        for case in self.curved:
            require_positive("curved", case[2])
        if isinstance(self.rows, str | int) or len(self.rows) != len(self.sizes):
            raise ValueError(f"rows must be a list of one number for each of sizes, got {self.rows!r}")
        for count in self.rows:
            require_positive_int("rows", count)
        require_seeds((self.weights_seed,))
        require_seeds(self.seeds)
        if len(self.seeds) < 3:
            raise ValueError(f"seeds must be at least three, for standard errors, got {list(self.seeds)!r}")
        if self.repeats < 3:
            raise ValueError(f"repeats must be at least 3, to tell bias from noise, got {self.repeats!r}")

    def run(self) -> tuple[dict[str, Any], Figure]:
        """Figures (projections and their worst, passes, bias and deviation on MNIST) and the picture.

        Raises:
            DataError: MNIST is neither in the data folder nor can it be downloaded.
        """
        # first, so that data that are missing are told of at once
        images = load_mnist("train").x[: self.images].flatten(1).double() / 127.5 - 1
        passes = {name: float(e.passes) for name, e in estimators(torch.ones(1)).items()}
        linear = {
            _called(latent, dim, sigma): self._linear(latent, dim, sigma, rows)
            for (latent, dim), rows in zip(self.sizes, self.rows, strict=True)
            for sigma in self.sigmas
        }
        curved = self._curved_all(self.curved_sigma)
        wide = self._curved_all(self.wide_sigma)
        net = LinearGenerator.pca(images, self.components)
        mnist = entropy_on_pca(net, points=self.points, repeats=self.repeats, tuning=self.tuning, seed=self.seeds[0])
        figures = {
            "scale_default": _worst(linear, DEFAULT),
            "scale_paper": _worst(linear, PAPER),
            "scale_nonlinear": _worst(curved, DEFAULT),
            "scale_nonlinear_wide": _worst(wide, DEFAULT),
            "scale_nonlinear_paper": _worst(curved, PAPER),
            "passes_default": passes[DEFAULT],
            "passes_paper": passes[PAPER],
            "passes": passes,
            "linear": _record(linear),
            "nonlinear": _record({**curved, **wide}),
            "mnist": mnist,
        }
        return figures, picture(linear, passes, mnist, sizes=self.sizes, sigmas=self.sigmas)

    # -- linear generators ---------------------------------------------------------------------------------------------

    def _linear(self, latent: int, dim: int, sigma: float, rows: int) -> dict[str, Projection]:
        source = torch.Generator().manual_seed(self.weights_seed)
        weight = torch.randn(dim, latent, generator=source, dtype=torch.float64) / math.sqrt(latent)
        net = LinearGenerator(weight, sigma=sigma, sigma_bounds=(sigma, sigma))
        exact = flat_gradient(net.entropy(), [net.weight])
        # where the bound is highest: the diagonal of the posterior's precision
        best = 1 / torch.sqrt(1 + weight.square().sum(0) / sigma**2)
        found = {}
        for name, estimator in estimators(best).items():
            if isinstance(estimator, HMCPosterior):
                adapt(estimator, net, transitions=100, seed=self.seeds[0])
            repeated = [gradient(estimator, net, [net.weight], rows=rows, seed=seed) for seed in self.seeds]
            found[name] = projection(torch.stack(repeated), exact)
        return found

    # -- curved generators ---------------------------------------------------------------------------------------------

    def _curved_all(self, sigma: float) -> dict[str, dict[str, Projection]]:
        return {
            f"{_called(int(latent), int(dim), sigma)}, gain {gain:g}": self._curved(int(latent), int(dim), gain, sigma)
            for latent, dim, gain in self.curved
        }

    def _curved(self, latent: int, dim: int, gain: float, sigma: float) -> dict[str, Projection]:
        """Against the covariance identity over pairs of the generating latent and the end of a long chain."""
        net = self._perceptron(latent, dim, gain, sigma)
        chain = HMCPosterior(burn_in=self.transitions - 1, keep=1, identity="covariance", step_size=sigma / 2).double()
        adapt(chain, net, transitions=300, seed=self.seeds[0])
        scale = tune(net, steps=self.tuning, rows=100, seed=self.seeds[0])
        paper = ImportancePosterior(latent, chunk=10)
        set_scale(paper, scale)
        others: dict[str, EntropyEstimator] = {
            **volumes(1, 2, 3, 4, 5),
            "local volume, solved": LocalVolume(iterations=latent),
        }
        truth: list[Tensor] = []
        found: dict[str, list[Tensor]] = {name: [] for name in (PAPER, *others)}
        for seed in self.seeds:
            # the same samples for all, so that what they share of the noise cancels
            truth.append(self._mean_gradient(chain, net, seed, probes=1))
            found[PAPER].append(self._mean_gradient(paper, net, seed, probes=1))
            for name, other in others.items():
                found[name].append(self._mean_gradient(other, net, seed, probes=_PROBES))
        return {name: projection(torch.stack(rows), torch.stack(truth)) for name, rows in found.items()}

    def _mean_gradient(self, estimator: EntropyEstimator, net: MLPGenerator, seed: int, *, probes: int) -> Tensor:
        draw = net.sample(self.curved_rows, generator=seeded(seed, 1))
        source = seeded(seed, 2)
        surrogates = [estimator(net, draw, generator=source).surrogate.mean() for _ in range(probes)]
        return flat_gradient(torch.stack(surrogates).mean(), list(net.layers.parameters()))

    def _perceptron(self, latent: int, dim: int, gain: float, sigma: float) -> MLPGenerator:
        bounds = (sigma, sigma)
        # its own start is drawn from the global generator, and overwritten
        with torch.random.fork_rng(devices=[]):
            net = MLPGenerator(
                latent, dim, width=self.width, depth=self.depth, activation="tanh", sigma=sigma, sigma_bounds=bounds
            ).double()
        source = torch.Generator().manual_seed(self.weights_seed)
        with torch.no_grad():
            net.log_sigma.fill_(math.log(sigma))
            for parameter in net.layers.parameters():
                if parameter.dim() == 2:
                    normal = torch.randn(parameter.shape, generator=source, dtype=torch.float64)
                    parameter.copy_(gain * normal / math.sqrt(parameter.shape[1]))
                else:
                    parameter.zero_()
        return net


def _called(latent: int, dim: int, sigma: float) -> str:
    return f"{latent} -> {dim}, sigma {sigma:g}"


def _worst(cases: Mapping[str, Mapping[str, Projection]], name: str) -> float:
    """The projection farthest from 1."""
    values: list[float] = [case[name].value for case in cases.values()]
    worst: float = max(values, key=lambda value: abs(value - 1))
    return round(worst, 4)


def _record(cases: Mapping[str, Mapping[str, Projection]]) -> dict[str, Any]:
    return {case: {name: p.as_figures() for name, p in found.items()} for case, found in cases.items()}


def _require_tuples(name: str, values: Sequence[Any], length: int) -> None:
    listed = isinstance(values, Sequence) and not isinstance(values, str) and len(values) > 0
    if not listed or not all(isinstance(v, Sequence) and not isinstance(v, str) and len(v) == length for v in values):
        raise ValueError(f"{name} must be a list of lists of {length} numbers, got {values!r}")
