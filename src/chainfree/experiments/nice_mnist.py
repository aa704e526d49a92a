"""Four ways to train one energy whose likelihood is known, for the same time each.

The likelihood experiment of Grathwohl et al., "No MCMC for Me", ICLR 2021, arXiv 2010.04230: NICE (Dinh et al., arXiv
1410.8516) on MNIST. Sliced score matching there is that of Song et al., UAI 2019, arXiv 1905.07088, and MEG is that of Kumar
et al., 2019, arXiv 1901.08508.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

import torch
from matplotlib.figure import Figure
from torch import Tensor

from .. import plotting
from ..checks import require_in_unit_interval, require_non_negative, require_positive, require_positive_int
from ..datasets import LogitTransform
from ..energies import NICE
from ..energies.layers import Activation
from ..engine import Constant, Cosine, Engine, OptimizerSettings, ScheduleSettings, TrainingDivergedError
from ..engine.callbacks import Callback
from ..entropy import LocalVolume
from ..generators.critics import MLPCritic
from ..losses import MaximumLikelihood, SlicedScoreMatching
from ..objectives import MEG, VERA
from .checks import require_each, require_seeds
from .nice_data import NiceData, mean_log_prob, nice_data
from .nice_start import started_generator, started_nice
from .timed_fit import TimedFit, never_started, steps_within, timed_fit

__all__ = ["NiceMNIST"]

Method = Literal["maximum_likelihood", "sliced_score_matching", "meg", "vera"]
_LEVELS = 256
_EXACT: Method = "maximum_likelihood"
_GAMES: tuple[Method, ...] = "meg", "vera"


def _default_rates() -> dict[str, Sequence[float]]:
    return {
        "maximum_likelihood": (3e-4, 1e-3, 2e-3, 4e-3),
        "sliced_score_matching": (1e-6, 3e-6, 1e-5, 1e-4),
        "meg": (1e-4, 2e-4),
        "vera": (1e-4, 2e-4, 3e-4, 5e-4),
    }


def _default_entropy_weights() -> dict[str, Sequence[float]]:
    return {"meg": (1.0, 10.0)}


class _Candidate(NamedTuple):
    """What is searched; ``entropy_weight`` means nothing to methods without a generator."""

    rate: float
    entropy_weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class NiceMNIST:
    """Settings of the experiment.

    Every method trains the same NICE from the same start on the same stream of dequantised logits for the same time. Its
    candidate is the one whose short fit ended best on validation images; then it is trained for ``seconds``, and the averaged
    weights that were best on validation images are judged on the test images, once.

    Args:
        preset: a name for these settings, which the result repeats.
        methods: which of the four.
        seconds: of training, for every method; the number of steps is this over a measured step.
        steps: by method, in place of what is measured: those of an earlier result repeat it.
        search_seconds: of the short fit of every candidate; not needed where there is one.
        probe_seconds: of the measurement of a step.
        rates: by method, candidates for the energy's learning rate.
        entropy_weights: the same for λ of ``meg`` and ``vera``, 1 where nothing is said. All pairs of a rate and a weight
            are tried, as many for every method.
        player_rate: learning rate of generators and critics.
        betas: of Adam in the games.
        ema: decay of the moving average of the weights.
        batch: rows of data a step, and samples of a generator.
        alpha: of the logit; see :class:`chainfree.datasets.LogitTransform`.
        validation: rows of the training images that are held out; the first of them are looked at.
        looks: at the validation images during training.
        couplings, width, depth, activation: of NICE.
        generator_width, generator_depth: of the generator's perceptron and of the critic.
        sigma, sigma_bounds: the generator's noise at the start and where it is held, in standardised logits.
        gradient_penalty: γ of both games.
        entropy_samples, entropy_iterations: of VERA's estimator, :class:`chainfree.entropy.LocalVolume`.
        device: where to train.
        seeds: one is what the time allows.
    """

    preset: str = "cpu"
    methods: Sequence[Method] = get_args(Method)
    seconds: float = 150.0
    steps: Mapping[str, int] = field(default_factory=dict)
    search_seconds: float = 30.0
    probe_seconds: float = 2.0
    rates: Mapping[str, Sequence[float]] = field(default_factory=_default_rates)
    entropy_weights: Mapping[str, Sequence[float]] = field(default_factory=_default_entropy_weights)
    player_rate: float = 1e-3
    betas: Sequence[float] = (0.5, 0.99)
    ema: float = 0.995
    batch: int = 64
    alpha: float = 1e-3
    validation: int = 5000
    looks: int = 40
    couplings: int = 4
    width: int = 256
    depth: int = 2
    activation: Activation = "softplus"
    generator_width: int = 256
    generator_depth: int = 2
    sigma: float = 0.3
    sigma_bounds: Sequence[float] = (0.02, 0.99)
    gradient_penalty: float = 0.3
    entropy_samples: int = 16
    entropy_iterations: int = 5
    device: str = "cpu"
    seeds: Sequence[int] = (0,)

    def __post_init__(self) -> None:
        for name in ("batch", "validation", "looks", "width", "depth", "entropy_samples"):
            require_positive_int(name, getattr(self, name))
        for name in ("generator_width", "generator_depth", "entropy_iterations"):
            require_positive_int(name, getattr(self, name))
        for name in ("seconds", "search_seconds", "probe_seconds", "player_rate"):
            require_positive(name, getattr(self, name))
        require_positive_int("couplings", self.couplings)
        if self.couplings < 2:
            raise ValueError(f"couplings must be at least 2, so that every pixel is moved, got {self.couplings!r}")
        require_in_unit_interval("ema", self.ema)
        require_non_negative("gradient_penalty", self.gradient_penalty)
        LogitTransform(alpha=self.alpha)
        for name in ("betas", "sigma_bounds"):
            if isinstance(getattr(self, name), str) or len(getattr(self, name)) != 2:
                raise ValueError(f"{name} must be two numbers, got {getattr(self, name)!r}")
        if not 0 < self.sigma_bounds[0] <= self.sigma <= self.sigma_bounds[1] < 1:
            raise ValueError(
                f"sigma_bounds must lie between 0 and 1 in order, sigma between them; got {self.sigma!r} and "
                f"{self.sigma_bounds!r}"
            )
        OptimizerSettings(betas=(self.betas[0], self.betas[1]))
        self._check_methods()
        require_seeds(self.seeds)

    def _check_methods(self) -> None:
        require_each("methods", self.methods, _require_method)
        for method, steps in self.steps.items():
            _require_method("steps", method)
            require_positive_int("steps", steps)
        for method in self.methods:
            if method not in self.rates:
                raise ValueError(f"rates has no candidates for {method}; give every method a list")
        for method, rates in self.rates.items():
            _require_method("rates", method)
            require_each("rates", rates, require_positive)
        for method, weights in self.entropy_weights.items():
            if method not in _GAMES:
                raise ValueError(
                    f"entropy_weights has {method!r}, but only {' and '.join(_GAMES)} have an entropy's weight"
                )
            require_each("entropy_weights", weights, require_positive)
        counts = {method: len(self._candidates(method)) for method in self.methods}
        if len(set(counts.values())) > 1:
            raise ValueError(
                "rates, times entropy_weights, must be as many candidates for every method: the search is part of the "
                f"comparison; got {', '.join(f'{count} for {method}' for method, count in counts.items())}"
            )

    def _candidates(self, method: str) -> list[_Candidate]:
        pairs = itertools.product(self.rates[method], self.entropy_weights.get(method, (1.0,)))
        return [_Candidate(float(rate), float(weight)) for rate, weight in pairs]

    # -- running -------------------------------------------------------------------------------------------------------

    def run(self) -> tuple[dict[str, Any], Figure]:
        """Figures (test log-likelihoods in nats, by method a number per seed) and validation curves against time."""
        data = nice_data(alpha=self.alpha, validation=self.validation, device=self.device)
        figures: dict[str, Any] = {
            "preset": self.preset,
            "log_likelihood": {},
            "below_maximum_likelihood": {},
            "log_likelihood_of_pixels": {},
            "bits_per_dimension": {},
            "log_likelihood_at_the_end": {},
            "ended": {},
            "seconds": {},
            "steps": {},
            "learning_rate": {},
            "entropy_weight": {},
            "on_the_edge": {},
            "validation_by_candidate": {},
            "references": self._references(data),
        }
        fits: dict[str, list[TimedFit]] = {}
        for method in self.methods:
            for seed in self.seeds:
                chosen, tried = self._choose(method, data, seed)
                fit = self._fit(method, chosen, data, seed)
                fits.setdefault(method, []).append(fit)
                found = self._log_likelihood(fit.best, data)
                pixels = found + data.volume
                last = self._log_likelihood(fit.last, data)
                for name, value in [
                    ("log_likelihood", found),
                    ("log_likelihood_of_pixels", pixels),
                    ("bits_per_dimension", math.log2(_LEVELS) - pixels / data.test.shape[1] / math.log(2)),
                    ("log_likelihood_at_the_end", last if math.isfinite(last) else None),
                    ("ended", fit.ended),
                    ("seconds", round(fit.seconds, 1)),
                    ("steps", fit.steps),
                    ("learning_rate", chosen.rate),
                    ("on_the_edge", self._edges(method, chosen)),
                    ("validation_by_candidate", tried),
                ]:
                    figures[name].setdefault(method, []).append(value)
                if method in _GAMES:
                    figures["entropy_weight"].setdefault(method, []).append(chosen.entropy_weight)
        reached = figures["log_likelihood"]
        if _EXACT in reached:
            figures["below_maximum_likelihood"] = {
                method: [ours - theirs for ours, theirs in zip(reached[_EXACT], values, strict=True)]
                for method, values in reached.items()
            }
        return figures, _picture(fits, figures["references"])

    def _choose(self, method: Method, data: NiceData, seed: int) -> tuple[_Candidate, dict[str, float | None]]:
        """The candidate whose short fit ended best, and what each ended with; ``None`` if it diverged."""
        candidates = self._candidates(method)
        if len(candidates) == 1:
            return candidates[0], {}
        ends: dict[_Candidate, float] = {}
        for candidate in candidates:
            fit = self._fit(method, candidate, data, seed, search=True)
            if fit.ended == "completed" and math.isfinite(fit.curve[1][-1]):
                ends[candidate] = fit.curve[1][-1]
        best = max(ends, key=ends.__getitem__, default=min(candidates))
        return best, {self._called(method, candidate): ends.get(candidate) for candidate in candidates}

    def _called(self, method: Method, candidate: _Candidate) -> str:
        searched = len(self.entropy_weights.get(method, ())) > 1
        return f"{candidate.rate:g}" + (f", entropy weight {candidate.entropy_weight:g}" if searched else "")

    def _edges(self, method: Method, chosen: _Candidate) -> list[str]:
        """What of the winner is the least or the greatest that was tried: better ones may lie beyond."""
        grids = {"learning_rate": self.rates[method], "entropy_weight": self.entropy_weights.get(method, (1.0,))}
        return [
            name
            for (name, grid), value in zip(grids.items(), chosen, strict=True)
            if len(grid) > 1 and value in (min(grid), max(grid))
        ]

    def _fit(
        self, method: Method, candidate: _Candidate, data: NiceData, seed: int, *, search: bool = False
    ) -> TimedFit:
        def make(callbacks: list[Callback]) -> Engine:
            # at a constant rate a candidate has to be stable where the long fit will spend its time
            schedule = Constant() if search else Cosine()
            return self._engine(method, candidate, data.start, seed, callbacks=callbacks, schedule=schedule)

        def look(energy: torch.nn.Module) -> float:
            return data.in_logits(mean_log_prob(energy, data.validation))

        steps = None if search else self.steps.get(method)
        if steps is None:
            seconds = self.search_seconds if search else self.seconds
            try:
                steps = steps_within(
                    make, data.batches(self.batch, seed), seconds=seconds, probe=min(self.probe_seconds, seconds)
                )
            except TrainingDivergedError:
                return never_started(make, look=look)
        return timed_fit(
            make, data.batches(self.batch, seed), steps=steps, looks=1 if search else self.looks, look=look
        )

    def _engine(
        self,
        method: Method,
        candidate: _Candidate,
        start: Tensor,
        seed: int,
        *,
        callbacks: list[Callback],
        schedule: ScheduleSettings,
    ) -> Engine:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            energy = self._nice(start)
            objective = self._objective(method, start.shape[1], candidate.entropy_weight)
        players = ["energy"] if not isinstance(objective, MEG | VERA) else list(objective.players(energy))
        betas = OptimizerSettings().betas if len(players) == 1 else (self.betas[0], self.betas[1])
        return Engine(
            energy,
            objective,
            seed=seed,
            optimizer={
                name: OptimizerSettings(lr=candidate.rate if name == "energy" else self.player_rate, betas=betas)
                for name in players
            },
            schedule=schedule,
            ema=self.ema,
            device=self.device,
            callbacks=callbacks,
        )

    def _nice(self, start: Tensor) -> NICE:
        """From torch's global generator, so that every method has the same one."""
        return started_nice(
            start, couplings=self.couplings, width=self.width, depth=self.depth, activation=self.activation
        )

    def _objective(
        self, method: Method, dim: int, entropy_weight: float
    ) -> MaximumLikelihood | SlicedScoreMatching | MEG | VERA:
        if method == _EXACT:
            return MaximumLikelihood()
        if method == "sliced_score_matching":
            return SlicedScoreMatching(variance_reduction=True)
        width, depth = self.generator_width, self.generator_depth
        low, high = self.sigma_bounds
        generator = started_generator(dim, width=width, depth=depth, sigma=self.sigma, sigma_bounds=(low, high))
        if method == "meg":
            critic = MLPCritic(dim, generator.latent_dim, width=width, depth=depth)
            return MEG(generator, critic, entropy_weight=entropy_weight, gradient_penalty=self.gradient_penalty)
        return VERA(
            generator,
            entropy=LocalVolume(generator.latent_dim, iterations=self.entropy_iterations),
            entropy_weight=entropy_weight,
            entropy_samples=self.entropy_samples,
            gradient_penalty=self.gradient_penalty,
        )

    # -- likelihoods ---------------------------------------------------------------------------------------------------

    def _log_likelihood(self, state: Mapping[str, Tensor], data: NiceData) -> float:
        """Of test images, in logits."""
        with torch.random.fork_rng(devices=[]):
            energy = self._nice(data.start[:2]).to(self.device)
        energy.load_state_dict(state)
        return data.in_logits(mean_log_prob(energy, data.test))

    def _references(self, data: NiceData) -> dict[str, float]:
        """Test log-likelihoods of the start, and of normals."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seeds[0])
            start = self._nice(data.start).to(self.device)
        return {"start": data.in_logits(mean_log_prob(start, data.test)), **data.normals()}


def _require_method(name: str, method: Any) -> None:
    if method not in get_args(Method):
        raise ValueError(f"{name} has {method!r}, which is none of {', '.join(get_args(Method))}")


def _picture(fits: Mapping[str, Sequence[TimedFit]], references: Mapping[str, float]) -> Figure:
    """Validation log-likelihood against seconds of training; times of several seeds are averaged."""
    lowest = references["start"] - 300
    series = {}
    for method, runs in fits.items():
        shortest = min(len(run.curve[0]) for run in runs)
        seconds = torch.tensor([run.curve[0][:shortest] for run in runs]).mean(0)
        # a method that runs away would leave nothing to be seen of the others
        values = torch.tensor([run.curve[1][:shortest] for run in runs]).clamp_min(lowest)
        series[method.replace("_", " ") if "_" in method else method.upper()] = (seconds.numpy(), values.numpy())
    return plotting.curves(
        series,
        x_label="seconds of training",
        y_label="validation log-likelihood (nats, logits)",
        title="NICE on MNIST, four ways to train it",
        reference={"start": references["start"], "normal, full covariance": references["normal, full covariance"]},
    )
