"""Latent energy priors beside the autoencoder and the chains that they have to beat, at equal time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from ... import plotting
from ...batches import batches
from ...checks import require_positive_int
from ...datasets import Images, scaled_pixels
from ...energies import TabularMixture, Tilted
from ...energies.analytic.base import AnalyticEnergy
from ...engine import Engine, OptimizerSettings, TrainingDivergedError
from ...evaluation import frechet_distance, image_features, precision_recall, train_image_classifier
from ...fitting import fit_generator
from ...generators import LatentGenerator, MixtureGenerator, ResidualGenerator
from ...latent import GeneratorPrior, LangevinPrior, LatentModel, LatentsOfPrior, ResampledPrior
from ...samplers import sample_tilted
from ..checks import require_seeds
from ..notes import Notes
from ..side_by_side import side_by_side
from .methods import LatentMethod, LatentNetworks, latent_methods
from .runs import Run, Schedule, images_for, require_data, settings_of, trained

__all__ = ["LatentComparison"]

_SHOWN = 10
_FOR_BALLS = 3000  # images that precision and recall are taken on
_FEWEST = 10  # samples that distances are taken of
_TURNS = 15
_STEPS_A_TURN = 4


@dataclass(frozen=True, kw_only=True)
class LatentComparison:
    """Settings of the experiment: each method trains for so many seconds on one device, on the same images and networks.

    How many steps that is, is measured first; they are what is recorded.

    Args:
        data: ``mnist`` or ``fashion_mnist``.
        methods: settings of :class:`LatentMethod` by name. ``lebm`` is the one that the prior's step is timed against.
        networks: settings of :class:`LatentNetworks`.
        schedule: settings of :class:`Schedule`.
        images: generated, for the Fréchet distance.
        restored: of those to be judged by, for the error of reconstructions.
        timed: method whose prior's step, of the first stage, is compared with that of ``lebm``.
        sampled: method whose energy a generator of latents is fitted to, and a chain is run on.
        generator_steps, generator_width: of that generator, which moves the draws of what the energy is tilted from.
        chain_steps, chain_step_size: of that chain.
        drawn: latents of either and of the prior's own sampler, for their times and Fréchet distances.
        judged_on: ``test``; or ``validation``, the last 10,000 training images, by which settings are chosen.
        seeds: of training.
        jobs: trainings side by side, a thread each.
        found: file of what was found so far, JSON lines.
    """

    data: str
    methods: Mapping[str, Mapping[str, Any]]
    networks: Mapping[str, Any] = field(default_factory=dict)
    schedule: Mapping[str, Any] = field(default_factory=dict)
    images: int = 10_000
    restored: int = 2000
    timed: str = "ed_lebm"
    sampled: str = "ed_lebm"
    generator_steps: int = 500
    generator_width: int = 128
    chain_steps: int = 500
    chain_step_size: float = 0.04
    drawn: int = 2000
    judged_on: str = "test"
    seeds: Sequence[int] = (0, 1, 2)
    jobs: int = 2
    found: str = "runs/latent_comparison.jsonl"

    def __post_init__(self) -> None:
        require_data(self.data, self.judged_on)
        methods = latent_methods(self.methods)
        for name in (self.timed, "lebm"):
            if name not in methods or methods[name].prior == "normal":
                raise ValueError(f"methods must have {name!r} with a prior that is trained, got {', '.join(methods)}")
        if self.sampled not in methods:
            raise ValueError(f"methods must have {self.sampled!r}, got {', '.join(methods)}")
        LangevinPrior(steps=self.chain_steps, step_size=self.chain_step_size)
        LatentNetworks(**self.networks)
        Schedule(**self.schedule)
        for name in ("images", "restored", "drawn", "generator_steps", "generator_width", "jobs"):
            require_positive_int(name, getattr(self, name))
        require_seeds(self.seeds)

    def run(self) -> tuple[dict[str, Any], Figure]:
        """Figures by method, and rows of images: some to be judged by, reconstructions, samples."""
        train, test = images_for(self.data, self.judged_on)
        judge = train_image_classifier(train.x, train.y, seed=0)
        notes = Notes(Path(self.found))
        asked = [self._question(name, seed) for seed in self.seeds for name in self.methods]
        missing = [(question, judge) for question in asked if question not in notes]
        for index, found in side_by_side(_answer, missing, jobs=self.jobs):
            question = missing[index][0]
            notes.add(question, found)
            shown = {key: value for key, value in found.items() if not isinstance(value, list)}
            print(question["name"], question["seed"], shown, flush=True)  # noqa: T201
        figures: dict[str, Any] = {}
        for name in self.methods:
            _put(figures, name, [notes[self._question(name, seed)] for seed in self.seeds])
        figures |= self._of_data(judge, train, test)
        figures |= self._prior_steps()
        figures["accuracy_of_judge"] = float((judge(scaled_pixels(test.x)).argmax(1) == test.y).double().mean())
        figures["trained_on"] = Schedule(**self.schedule).trained_on
        figures["settings"] = {**asdict(self), "seeds": list(self.seeds)}
        return figures, self._picture(test, notes)

    def _question(self, name: str, seed: int) -> dict[str, Any]:
        samplers = {
            "steps": self.generator_steps,
            "width": self.generator_width,
            "chain_steps": self.chain_steps,
            "chain_step_size": self.chain_step_size,
            "drawn": self.drawn,
        }
        return {
            "experiment": "latent_comparison",
            "name": name,
            "data": self.data,
            "judged_on": self.judged_on,
            "method": dict(self.methods[name]),
            "networks": dict(self.networks),
            "schedule": dict(self.schedule),
            "trained_on": Schedule(**self.schedule).trained_on,
            "images": self.images,
            "restored": self.restored,
            "samplers": samplers if name == self.sampled else None,
            "seed": seed,
        }

    def _of_data(self, judge: nn.Sequential, train: Images, test: Images) -> dict[str, float]:
        """What training images score against those to be judged by, which is about what samples without a fault would."""
        real, other = (image_features(judge, scaled_pixels(part.x[: self.images])) for part in (test, train))
        balls = precision_recall(real[:_FOR_BALLS], other[:_FOR_BALLS])
        return {
            "frechet_of_data": frechet_distance(real, other),
            "precision_of_data": balls.precision,
            "recall_of_data": balls.recall,
        }

    def _prior_steps(self) -> dict[str, Any]:
        """Milliseconds of one step of every prior that is trained along, on the same latents, in turns on one machine."""
        methods = {name: m for name, m in latent_methods(self.methods).items() if m.prior != "normal"}
        networks, batch = LatentNetworks(**self.networks), Schedule(**self.schedule).batch
        steps = {name: _prior_alone(method, networks, batch) for name, method in methods.items()}
        spent: dict[str, list[float]] = {name: [] for name in methods}
        for _ in range(_TURNS):
            for name, step in steps.items():
                _, seconds = _timed(lambda step=step: step(_STEPS_A_TURN))  # type: ignore[misc]
                spent[name].append(seconds / _STEPS_A_TURN)
        median = {name: statistics.median(values) for name, values in spent.items()}
        return {
            "prior_step_ratio_vs_lebm": median["lebm"] / median[self.timed],
            "prior_step_ms": {name: 1e3 * value for name, value in median.items()},
        }

    def _picture(self, test: Images, notes: Notes) -> Figure:
        rows, names = [scaled_pixels(test.x[:_SHOWN])], ["images"]
        for name in self.methods:
            found = notes[self._question(name, self.seeds[0])]
            for key in ("reconstructions", "samples", "samples_of_generator"):
                if key in found:
                    rows.append(_images(found[key]))
                    names.append(f"{name}: {key.replace('_', ' ')}")
        title = "A decoder's latents by several priors, at equal time"
        return plotting.image_grid(torch.cat(rows), columns=_SHOWN, low=-1.0, high=1.0, title=title, row_names=names)


def _answer(question: Mapping[str, Any], classifier: nn.Sequential) -> dict[str, Any]:
    """One method trained for its time and judged."""
    method, networks, schedule = settings_of(question)
    x, test = (scaled_pixels(part.x) for part in images_for(question["data"], question["judged_on"]))
    try:
        run = trained(x, method, networks, schedule, seed=question["seed"])
    except TrainingDivergedError as error:
        return {"diverged": True, "why": [str(error)]}
    source = torch.Generator().manual_seed(question["seed"] + 1)
    judge = _Judge(classifier, image_features(classifier, test[: question["images"]]), source)
    shown = test[: question["restored"]]
    restored = run.model.reconstruct(shown, run.posterior, generator=source)
    kept = restored.flatten(1).isfinite().all(1)
    found = {
        "diverged": False,
        "lost_of_reconstruction": 1 - float(kept.double().mean()),
        "sigma": float(run.model.decoder.sigma),
        "seconds": run.seconds,
        "second_stage_seconds": run.second_stage_seconds,
        "steps": run.steps,
        "reconstructions": _bytes(restored[:_SHOWN].nan_to_num()),
        **judge.found(run.model, run.prior),
    }
    if bool(kept.any()):
        found["reconstruction_mse"] = _error(restored[kept], shown[kept])
    if run.trained_posterior != run.posterior:
        of_encoder = run.model.reconstruct(shown, run.trained_posterior, generator=source)
        found["reconstruction_mse_of_encoder"] = _error(of_encoder, shown)
    if run.gain is not None:
        found["held_out_gain"] = run.gain
    if method.refit and method.refit_steps:
        found |= {f"{key}_of_mixture": value for key, value in judge.found(run.model, _OfBase()).items()}
    if question["samplers"] is not None:
        few = replace(judge, real=judge.real[: question["samplers"]["drawn"]])
        found |= _samplers(run, few, question["samplers"], question["seed"])
    return found


def _error(restored: Tensor, images: Tensor) -> float:
    """Mean square, of pixels in [0, 1]."""
    return float((0.5 * (restored - images)).square().mean())


class _OfBase:
    """The draws of a tilted prior's base, as if there were no tilt."""

    def latents(self, model: LatentModel, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        assert isinstance(model.prior, Tilted)
        return model.prior.base.sample(n, generator=generator)


@dataclass(frozen=True)
class _Judge:
    """What samples are worth against as many images.

    Args:
        classifier: whose features they are compared in.
        real: the images' features.
        source: of the samples.
    """

    classifier: nn.Sequential
    real: Tensor
    source: torch.Generator

    def found(self, model: LatentModel, prior: LatentsOfPrior) -> dict[str, Any]:
        """Of samples whose latents are drawn in this way; the seconds are the latents' alone.

        Latents that are not finite are counted and left out: chains whose steps are too long for a narrow prior end there.
        """
        z, seconds = _timed(lambda: prior.latents(model, len(self.real), generator=self.source))
        finite = z[z.isfinite().all(1)]
        found: dict[str, Any] = {"sampling_seconds": seconds, "lost": 1 - len(finite) / len(z)}
        if len(finite) <= _FEWEST:
            return found
        with torch.no_grad():
            samples = torch.cat([model.mean(part) for part in finite.split(256)])
        features = image_features(self.classifier, samples)
        balls = precision_recall(self.real[:_FOR_BALLS], features[:_FOR_BALLS])
        return found | {
            "frechet": frechet_distance(self.real, features),
            "precision": balls.precision,
            "recall": balls.recall,
            "samples": _bytes(samples[:_SHOWN]),
        }


def _samplers(run: Run, judge: _Judge, asked: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """A generator that is fitted to the prior's energy, a chain on it, and how the prior is sampled else."""
    energy = run.model.prior
    assert isinstance(energy, Tilted)
    chain = LangevinPrior(steps=asked["chain_steps"], step_size=asked["chain_step_size"])
    ways: dict[str, LatentsOfPrior] = {"own_sampler": run.prior, "chain": chain}
    found: dict[str, Any] = {"generator_diverged": 0.0}
    net = _generator(energy, run.model.decoder.latent_dim, asked["width"], seed)
    try:
        # it begins at the base, and a smaller weight of the energy at first would only lead it away
        fitted = fit_generator(energy, net, steps=asked["steps"], start=1.0, seed=seed)
        ways["generator"] = GeneratorPrior(generator=fitted.generator)
        found["generator_fit_seconds"] = fitted.seconds
    except TrainingDivergedError:
        found["generator_diverged"] = 1.0
    if isinstance(run.prior, ResampledPrior):
        drawn = sample_tilted(energy, 1000, proposals=run.prior.proposals, generator=judge.source)
        found["effective_proposals"] = float(drawn.effective_proposals.median())
    for name, prior in ways.items():
        found |= {f"{key}_of_{name}": value for key, value in judge.found(run.model, prior).items()}
    if "generator" in ways:
        found["sampling_speedup"] = found["sampling_seconds_of_chain"] / found["sampling_seconds_of_generator"]
    return found


def _generator(energy: Tilted, latent: int, width: int, seed: int) -> LatentGenerator:
    """Where a generator of latents starts: at what the energy is tilted from."""
    base = energy.base
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(base, TabularMixture):
            return MixtureGenerator(base.log_weights.exp(), base.means, base.factors, width=width)
        return ResidualGenerator(latent, latent, width=width)  # a standard normal


def _prior_alone(method: LatentMethod, networks: LatentNetworks, batch: int) -> Callable[[int], None]:
    """Trains the prior for so many more steps on latents that are standard normal."""
    prior = method.training(networks, size=28, channels=1, seed=0).prior
    assert isinstance(prior, Tilted) and isinstance(prior.base, AnalyticEnergy)
    rule = method.rule(prior.base)
    assert rule is not None
    engine = Engine(prior, rule, seed=0, optimizer=OptimizerSettings(lr=method.prior_lr))
    z = torch.randn(10 * batch, networks.latent, generator=torch.Generator().manual_seed(0))
    data = batches(z, size=batch, seed=0)

    def step(steps: int) -> None:
        engine.fit(data, steps=engine.step + steps)

    step(_STEPS_A_TURN)
    return step


def _timed(draw: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    found = draw()
    return found, time.perf_counter() - began


def _put(figures: dict[str, Any], name: str, by_seed: Sequence[Mapping[str, Any]]) -> None:
    """One method's figures, those of seeds that did not diverge."""
    figures.setdefault("diverged", {})[name] = sum(found["diverged"] for found in by_seed)
    ended = [found for found in by_seed if not found["diverged"]]
    for key in dict.fromkeys(key for found in ended for key in found):
        values = [found[key] for found in ended if key in found]
        if isinstance(values[0], bool | list):
            continue
        spread = {"mean": statistics.fmean(values), "std": statistics.stdev(values) if len(values) > 1 else 0.0}
        if key == "sampling_speedup":  # one method's
            figures[key] = spread["mean"]
        else:
            figures.setdefault(key, {})[name] = {**spread, "by_seed": values}


def _bytes(images: Tensor) -> list[Any]:
    found: list[Any] = ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).tolist()
    return found


def _images(values: list[Any]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32) / 127.5 - 1
