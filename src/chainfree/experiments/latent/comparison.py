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
from ...batches import ArrayBatches, batches
from ...checks import require_positive, require_positive_int
from ...datasets import Images, load_fashion_mnist, load_mnist, scaled_pixels
from ...engine import Engine, OptimizerSettings, TrainingDivergedError
from ...engine.callbacks import Callback
from ...evaluation import frechet_distance, image_features, precision_recall, train_image_classifier
from ...fitting import fit_generator
from ...generators import ResidualGenerator
from ...latent import (
    GeneratorPrior,
    LangevinPosterior,
    LangevinPrior,
    LatentModel,
    LatentsOfPrior,
    LatentsOfRows,
    NormalPrior,
)
from ..checks import require_seeds
from ..notes import Notes
from ..side_by_side import side_by_side
from ..timed_fit import steps_within
from .methods import LatentMethod, LatentNetworks, Training, latent_methods

__all__ = ["LatentComparison", "LatentData", "load_latent_data", "trained_model"]

LatentData = {"mnist": load_mnist, "fashion_mnist": load_fashion_mnist}
_SHOWN = 10
_FOR_BALLS = 3000  # images that precision and recall are taken on
_TURNS = 15
_STEPS_A_TURN = 4


def load_latent_data(name: str, split: Any) -> Images:
    """Images of a data set.

    Raises:
        ValueError: no such data set.
        DataError: its file is missing.
    """
    if name not in LatentData:
        raise ValueError(f"data must be one of {', '.join(LatentData)}, got {name!r}")
    return LatentData[name](split)


@dataclass(frozen=True, kw_only=True)
class LatentComparison:
    """Settings of the experiment: each method trains for so many seconds on one thread, on the same images and networks.

    How many steps that is, is measured first; they are what is recorded. Test images are looked at once, at the end.

    Args:
        data: ``mnist`` or ``fashion_mnist``.
        methods: settings of :class:`LatentMethod` by name. ``lebm`` is the one that the prior's step is timed against.
        networks: settings of :class:`LatentNetworks`.
        seconds: of training.
        probe: seconds that the measurement takes.
        batch: images a step.
        images: generated, for the Fréchet distance.
        chain_steps, chain_step_size: of Langevin on the prior, for samples.
        timed: method whose prior's step is timed, and whose energy the generator of latents is fitted to.
        generator_steps, generator_width: of that generator.
        seeds: of training.
        jobs: trainings side by side, a thread each.
        found: file of what was found so far, JSON lines.
    """

    data: str
    methods: Mapping[str, Mapping[str, Any]]
    networks: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 300.0
    probe: float = 15.0
    batch: int = 128
    images: int = 10_000
    chain_steps: int = 500
    chain_step_size: float = 0.04
    timed: str = "ed_lebm"
    generator_steps: int = 3000
    generator_width: int = 256
    seeds: Sequence[int] = (0, 1, 2)
    jobs: int = 2
    found: str = "runs/latent_comparison.jsonl"

    def __post_init__(self) -> None:
        if self.data not in LatentData:
            raise ValueError(f"data must be one of {', '.join(LatentData)}, got {self.data!r}")
        methods = latent_methods(self.methods)
        for name in (self.timed, "lebm"):
            if name not in methods or methods[name].prior == "normal":
                raise ValueError(f"methods must have {name!r} with a prior that is trained, got {', '.join(methods)}")
        LatentNetworks(**self.networks)
        for name in ("seconds", "probe", "chain_step_size"):
            require_positive(name, getattr(self, name))
        for name in ("batch", "images", "chain_steps", "generator_steps", "generator_width", "jobs"):
            require_positive_int(name, getattr(self, name))
        require_seeds(self.seeds)

    def run(self) -> tuple[dict[str, Any], Figure]:
        """Figures by method, and rows of images: test images, reconstructions, samples."""
        train, test = load_latent_data(self.data, "train"), load_latent_data(self.data, "test")
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
            by_seed = [notes[self._question(name, seed)] for seed in self.seeds]
            _put(figures, name, by_seed)
        figures |= self._of_data(judge, train, test)
        figures |= self._prior_steps()
        figures["accuracy_of_judge"] = float((judge(scaled_pixels(test.x)).argmax(1) == test.y).double().mean())
        figures["settings"] = {**asdict(self), "seeds": list(self.seeds)}
        return figures, self._picture(test, notes)

    def _question(self, name: str, seed: int) -> dict[str, Any]:
        kept = ("data", "seconds", "probe", "batch", "images", "chain_steps", "chain_step_size")
        question = {key: getattr(self, key) for key in kept}
        generator = {"steps": self.generator_steps, "width": self.generator_width} if name == self.timed else None
        return {
            "experiment": "latent_comparison",
            "name": name,
            "method": dict(self.methods[name]),
            "networks": dict(self.networks),
            "generator": generator,
            "seed": seed,
            **question,
        }

    def _of_data(self, judge: nn.Sequential, train: Images, test: Images) -> dict[str, float]:
        """What images of the data's own law score: no method can be told from the data below it."""
        real, other = (image_features(judge, scaled_pixels(part.x[: self.images])) for part in (test, train))
        balls = precision_recall(real[:_FOR_BALLS], other[:_FOR_BALLS])
        return {
            "frechet_of_data": frechet_distance(real, other),
            "precision_of_data": balls.precision,
            "recall_of_data": balls.recall,
        }

    def _prior_steps(self) -> dict[str, Any]:
        """Milliseconds of one step of the prior alone, on the same latents, in turns on one machine."""
        methods = latent_methods({name: self.methods[name] for name in (self.timed, "lebm")})
        spent: dict[str, list[float]] = {name: [] for name in methods}
        steps = {
            name: _prior_alone(method, LatentNetworks(**self.networks), self.batch) for name, method in methods.items()
        }
        for _ in range(_TURNS):
            for name, step in steps.items():
                began = time.perf_counter()
                step(_STEPS_A_TURN)
                spent[name].append((time.perf_counter() - began) / _STEPS_A_TURN)
        median = {name: statistics.median(values) for name, values in spent.items()}
        return {
            "prior_step_ratio_vs_lebm": median["lebm"] / median[self.timed],
            "prior_step_ms": {name: 1e3 * value for name, value in median.items()},
        }

    def _picture(self, test: Images, notes: Notes) -> Figure:
        rows = [scaled_pixels(test.x[:_SHOWN])]
        for name in self.methods:
            found = notes[self._question(name, self.seeds[0])]
            rows += [_images(found[key]) for key in ("reconstructions", "samples") if key in found]
        names = ", ".join(self.methods)
        title = f"Test images; reconstructions and samples by {names}"
        return plotting.image_grid(torch.cat(rows), columns=_SHOWN, low=-1.0, high=1.0, title=title)


def trained_model(training: Training, engine: Engine) -> tuple[LatentModel, LatentsOfRows]:
    """The averaged networks, with the posterior that they were trained with."""
    objective = training.objective
    model = LatentModel(engine.averaged(), engine.averaged(training.decoder), objective.likelihood)
    posterior = objective.posterior
    if isinstance(posterior, LangevinPosterior):
        return model, posterior
    return model, replace(posterior, encoder=engine.averaged(posterior.encoder))


def _answer(question: Mapping[str, Any], judge: nn.Sequential) -> dict[str, Any]:
    """One method trained for its time and judged."""
    x = scaled_pixels(load_latent_data(question["data"], "train").x)
    test = scaled_pixels(load_latent_data(question["data"], "test").x)
    method, networks = LatentMethod(**question["method"]), LatentNetworks(**question["networks"])

    def training() -> Training:
        return method.training(networks, size=x.shape[2], channels=x.shape[1], seed=question["seed"])

    def data() -> ArrayBatches:
        return batches(x, size=question["batch"], seed=question["seed"])

    def probed(callbacks: list[Callback]) -> Engine:
        return training().engine(callbacks)

    try:
        steps = steps_within(probed, data(), seconds=question["seconds"], probe=question["probe"])
        own = training()
        engine = own.engine()
        report = engine.fit(data(), steps=steps)
    except TrainingDivergedError:
        return {"diverged": True}
    if report.stopped == "interrupted":
        raise KeyboardInterrupt(f"training was stopped by {engine.interrupted_by} at step {report.steps}")
    model, posterior = trained_model(own, engine)
    source = torch.Generator().manual_seed(question["seed"] + 1)
    prior: LatentsOfPrior = NormalPrior()
    if method.prior != "normal":
        prior = LangevinPrior(steps=question["chain_steps"], step_size=question["chain_step_size"])
    real = image_features(judge, test[: question["images"]])
    restored = model.reconstruct(test, posterior, generator=source)
    z, chain_seconds = _timed(lambda: prior.latents(model, question["images"], generator=source))
    samples = _decoded(model, z)
    features = image_features(judge, samples)
    balls = precision_recall(real[:_FOR_BALLS], features[:_FOR_BALLS])
    found = {
        "diverged": False,
        "frechet": frechet_distance(real, features),
        "precision": balls.precision,
        "recall": balls.recall,
        "reconstruction_mse": float((0.5 * (restored - test)).square().mean()),  # of pixels in [0, 1]
        "sigma": float(model.decoder.sigma),
        "seconds": report.seconds,
        "steps": steps,
        "reconstructions": _bytes(restored[:_SHOWN]),
        "samples": _bytes(samples[:_SHOWN]),
    }
    if question["generator"] is None:
        return found
    start = ResidualGenerator(
        networks.latent, networks.latent, width=question["generator"]["width"], seed=question["seed"]
    )
    fitted = fit_generator(engine.averaged(), start, steps=question["generator"]["steps"], seed=question["seed"])
    drawn = GeneratorPrior(generator=fitted.generator)
    z, generator_seconds = _timed(lambda: drawn.latents(model, question["images"], generator=source))
    samples = _decoded(model, z)
    return found | {
        "frechet_of_generator": frechet_distance(real, image_features(judge, samples)),
        "generator_seconds": fitted.seconds,
        "sampling_speedup": chain_seconds / generator_seconds,
        "samples_of_generator": _bytes(samples[:_SHOWN]),
    }


def _prior_alone(method: LatentMethod, networks: LatentNetworks, batch: int) -> Callable[[int], None]:
    """Trains the prior for so many more steps on latents that are standard normal."""
    training = method.training(networks, size=28, channels=1, seed=0)
    loss = method.loss(training.prior.base)  # type: ignore[arg-type]
    assert loss is not None
    engine = Engine(training.prior, loss, seed=0, optimizer=OptimizerSettings(lr=method.prior_lr))
    z = torch.randn(10 * batch, networks.latent, generator=torch.Generator().manual_seed(0))
    data = batches(z, size=batch, seed=0)

    def step(steps: int) -> None:
        engine.fit(data, steps=engine.step + steps)

    step(_STEPS_A_TURN)
    return step


def _timed(draw: Callable[[], Tensor]) -> tuple[Tensor, float]:
    began = time.perf_counter()
    z = draw()
    return z, time.perf_counter() - began


@torch.no_grad()
def _decoded(model: LatentModel, z: Tensor) -> Tensor:
    return torch.cat([model.mean(part) for part in z.split(256)])


def _put(figures: dict[str, Any], name: str, by_seed: Sequence[Mapping[str, Any]]) -> None:
    """One method's figures, those of seeds that did not diverge."""
    figures.setdefault("diverged", {})[name] = sum(found["diverged"] for found in by_seed)
    ended = [found for found in by_seed if not found["diverged"]]
    for key in ended[0] if ended else ():
        values = [found[key] for found in ended]
        if isinstance(values[0], bool | list):
            continue
        spread = {"mean": statistics.fmean(values), "std": statistics.stdev(values) if len(values) > 1 else 0.0}
        if key == "sampling_speedup":
            figures[key] = spread["mean"]
        figures.setdefault(key if key != "sampling_speedup" else "sampling_speedup_by_seed", {})[name] = {
            **spread,
            "by_seed": values,
        }


def _bytes(images: Tensor) -> list[Any]:
    found: list[Any] = ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).tolist()
    return found


def _images(values: list[Any]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32) / 127.5 - 1
