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
from ..entropy import EntropyEstimator, HMCPosterior, ImportancePosterior, LocalVolume, PreconditionedSteps
from ..generators import LinearGenerator, MLPGenerator
from .checks import require_each, require_seeds
from .entropy_bias_picture import picture
from .entropy_estimators import (
    DEFAULT,
    PAPER,
    Projection,
    banks,
    estimators,
    flat_gradient,
    gradient,
    mean_gradient,
    projection,
    seeded,
    set_scale,
    settle,
    tune,
    volumes,
)
from .entropy_mnist import entropy_on_pca
from .posterior_truth import ChainTruth, GridTruth, chain_truth, grid_truth

__all__ = ["EntropyBiasVariance"]

_PROBES = 4  # of the local volume on each row of a curved generator: they are cheap beside the truth
_CALLS, _CALL_ROWS = 100, 200  # at most, that step sizes and preconditioners settle in
_BANKED = 5000  # rows at most that see a bank, which has little noise
_BANK_LATENTS = 2  # at most: with more, a bank's means lie too far apart


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
        grid: nodes an axis that the truth is summed on where a curved generator has two latents.
        transitions: of the Markov chains that the truth is taken from where it has more; a multiple of four.
        tuning: steps of Adam that fit the posterior's scale where it has no closed form, and on MNIST as many calls of the
            local volume that fit its preconditioner; elsewhere a hundred at most.
        kept: states of the Markov chains on MNIST that are averaged.
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
    grid: int = 601
    transitions: int = 200
    tuning: int = 500
    kept: Sequence[int] = (1, 2, 5, 20, 100)
    images: int = 20_000
    components: int = 100
    points: int = 200
    repeats: int = 20
    weights_seed: int = 0
    seeds: Sequence[int] = (0, 1, 2, 3, 4, 5, 6, 7)

    def __post_init__(self) -> None:
        for name in ("curved_rows", "width", "depth", "grid", "tuning", "images", "components", "points", "repeats"):
            require_positive_int(name, getattr(self, name))
        require_each("kept", self.kept, require_positive_int)
        require_positive_int("transitions", self.transitions)
        if self.transitions % 4:
            raise ValueError(f"transitions must be a multiple of four, to compare halves, got {self.transitions!r}")
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
        truths: dict[str, dict[str, Any]] = {}
        curved = self._curved_all(self.curved_sigma, truths)
        wide = self._curved_all(self.wide_sigma, truths)
        net = LinearGenerator.pca(images, self.components)
        mnist = entropy_on_pca(
            net,
            points=self.points,
            repeats=self.repeats,
            tuning=self.tuning,
            kept=self.kept,
            seed=self.seeds[0],
        )
        figures = {
            "scale_default": _worst(linear, DEFAULT),
            "scale_paper": _worst(linear, PAPER),
            "scale_default_mnist": mnist["estimators"][DEFAULT]["projection"],
            "scale_nonlinear": _worst(curved, DEFAULT),
            "scale_nonlinear_wide": _worst(wide, DEFAULT),
            "scale_nonlinear_paper": _worst(curved, PAPER),
            "passes_default": passes[DEFAULT],
            "passes_paper": passes[PAPER],
            "passes": passes,
            "linear": _record(linear),
            "nonlinear": _record({**curved, **wide}),
            "nonlinear_truth": truths,
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
        compared = estimators(best) | (banks(2048) if latent <= _BANK_LATENTS else {})
        for name, estimator in compared.items():
            settle(estimator, net, calls=min(self.tuning, _CALLS), rows=_CALL_ROWS, seed=self.seeds[0])
            n = min(rows, _BANKED) if name.startswith("prior bank") else rows
            repeated = [gradient(estimator, net, [net.weight], rows=n, seed=seed) for seed in self.seeds]
            found[name] = projection(torch.stack(repeated), exact)
        return found

    # -- curved generators ---------------------------------------------------------------------------------------------

    def _curved_all(self, sigma: float, truths: dict[str, dict[str, Any]]) -> dict[str, dict[str, Projection]]:
        """How the truths were made is put into ``truths``."""
        found = {}
        for latent, dim, gain in self.curved:
            name = f"{_called(int(latent), int(dim), sigma)}, gain {gain:g}"
            found[name], truths[name] = self._curved(int(latent), int(dim), gain, sigma)
        return found

    def _curved(self, latent: int, dim: int, gain: float, sigma: float) -> tuple[dict[str, Projection], dict[str, Any]]:
        """Against :mod:`chainfree.experiments.posterior_truth`, and how that was made."""
        net = self._perceptron(latent, dim, gain, sigma)
        parameters = list(net.layers.parameters())
        compared = self._compared(net, sigma)
        truths: list[GridTruth | ChainTruth] = []
        found: dict[str, list[Tensor]] = {name: [] for name in compared}
        for seed in self.seeds:
            # the same samples for all, so that what they share of the noise cancels
            draw = net.sample(self.curved_rows, generator=seeded(seed, 1))
            if latent == 2:
                truths.append(grid_truth(net, draw, parameters, points=self.grid))
            else:
                source = seeded(seed, 2)
                truths.append(chain_truth(net, draw, parameters, transitions=self.transitions, generator=source))
            for name, other in compared.items():
                source, probes = seeded(seed, 3), _PROBES if isinstance(other, LocalVolume) else 1
                drawn = [mean_gradient(other, net, draw, parameters, generator=source) for _ in range(probes)]
                found[name].append(torch.stack(drawn).mean(0))
        true = torch.stack([truth.gradient for truth in truths])
        return {name: projection(torch.stack(rows), true) for name, rows in found.items()}, _made(truths)

    def _compared(self, net: MLPGenerator, sigma: float) -> dict[str, EntropyEstimator]:
        latent, seed = net.latent_dim, self.seeds[0]
        scale = tune(net, steps=self.tuning, rows=100, seed=seed)
        paper, steps = ImportancePosterior(latent, chunk=10), PreconditionedSteps(latent, steps=20)
        set_scale(paper, scale)
        set_scale(steps, scale)
        pairs = HMCPosterior(burn_in=3, keep=1, identity="covariance", step_size=sigma / 2)
        compared: dict[str, EntropyEstimator] = {
            PAPER: paper,
            "20 gradient steps": steps,
            "HMC, pairs over 4 transitions": pairs.to(scale.dtype),
            **volumes(scale, 1, 2, 3, 4, 5),
            "local volume, solved": LocalVolume(latent, iterations=latent).to(scale.dtype),
            **(banks(2048, 16_384) if latent <= _BANK_LATENTS else {}),
        }
        for estimator in compared.values():
            settle(estimator, net, calls=min(self.tuning, _CALLS), rows=_CALL_ROWS, seed=seed)
        return compared

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


def _made(truths: Sequence[GridTruth | ChainTruth]) -> dict[str, Any]:
    """What tells whether a truth is one: the finest posterior on the grid, or the chains after half of their length."""
    figures: dict[str, Any] = {"spread": _mean([truth.spread for truth in truths])}
    chains = [truth for truth in truths if isinstance(truth, ChainTruth)]
    if not chains:
        nodes = min(truth.finest for truth in truths if isinstance(truth, GridTruth))
        return {"by": "grid"} | figures | {"fewest_nodes_in_a_posterior": round(nodes, 1)}
    half = torch.stack([truth.half.gradient for truth in chains])
    return {
        "by": "chain",
        **figures,
        "spread_after_half": _mean([truth.half.spread for truth in chains]),
        "spread_gained": _mean([truth.spread - truth.half.spread for truth in chains]),
        "half_on_whole": projection(half, torch.stack([truth.gradient for truth in chains])).as_figures(),
        "acceptance": round(sum(truth.acceptance for truth in chains) / len(chains), 3),
    }


def _mean(values: Sequence[float]) -> dict[str, float]:
    each = torch.tensor(values, dtype=torch.float64)
    error = each.std() / math.sqrt(len(each))
    return {"mean": round(float(each.mean()), 4), "standard_error": round(float(error), 4)}


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
