"""How many of 1000 modes VERA's generator covers: StackedMNIST.

Grathwohl et al., ICLR 2021, arXiv 2010.04230, section 5; the data of Metz et al., 2017, arXiv 1611.02163. Three MNIST digits
are the channels of one image; a classifier that is trained here names the class of a sample. Labels are *consistent*: the
class is (digit of channel 0, of channel 1, of channel 2), in this order, for samples as for data.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from .. import plotting
from ..checks import require_non_negative, require_positive, require_positive_int
from ..datasets import load_mnist, stacked_mnist
from ..energies import ConvNet
from ..engine import Constant, Engine, OptimizerSettings
from ..engine.callbacks import Callback
from ..entropy import ImportancePosterior, LocalVolume
from ..evaluation import classify_stacked, mode_coverage, train_image_classifier
from ..functional.contrastive import PenaltyAt, require_penalty_at
from ..generators import DeconvGenerator
from ..objectives import VERA
from .checks import require_seeds

__all__ = ["StackedMNIST"]

_CLASSES = 1000


@dataclass(frozen=True, kw_only=True)
class StackedMNIST:
    """Settings of the experiment.

    Args:
        preset: name of this set of settings, for the record.
        estimator: of the entropy's gradient: ours (``local``) or the paper's 20 draws (``paper``).
        energy_widths: channels of the energy's convolutions.
        generator_widths: channels of the generator's.
        latent: features of z.
        sigma: the generator's noise scale, which is not learned here (pixels are in [-1, 1]): data have no noise, so by a
            wider one the energy tells them apart whatever the digits are.
        entropy_weight, gradient_penalty, penalty_at, entropy_samples: of :class:`chainfree.objectives.VERA`.
        steps, batch: of training.
        energy_lr, generator_lr, betas: of Adam, at constant rates.
        ema: decay of the generator's moving average.
        evaluate_every: rounds between looks at the modes on few samples; the last look alone is the result.
        samples: on which the result is counted.
        seeds: one; of everything.
    """

    preset: str = "cpu"
    estimator: Literal["local", "paper"] = "local"
    energy_widths: Sequence[int] = (32, 64, 128)
    generator_widths: Sequence[int] = (64, 32)
    latent: int = 64
    sigma: float = 0.01
    entropy_weight: float = 0.02
    gradient_penalty: float = 1.0
    penalty_at: PenaltyAt = "both"
    entropy_samples: int = 8
    steps: int = 8000
    batch: int = 64
    energy_lr: float = 2e-3
    generator_lr: float = 2e-3
    betas: Sequence[float] = (0.0, 0.9)
    ema: float = 0.999
    evaluate_every: int = 1000
    samples: int = 26_000
    seeds: Sequence[int] = (0,)

    def __post_init__(self) -> None:
        for name in ("latent", "entropy_samples", "steps", "batch", "evaluate_every", "samples"):
            require_positive_int(name, getattr(self, name))
        for name in ("sigma", "energy_lr", "generator_lr"):
            require_positive(name, getattr(self, name))
        for name in ("entropy_weight", "gradient_penalty"):
            require_non_negative(name, getattr(self, name))
        if self.estimator not in ("local", "paper"):
            raise ValueError(f"estimator must be 'local' or 'paper', got {self.estimator!r}")
        require_penalty_at(self.penalty_at)
        require_seeds(self.seeds)
        if len(self.seeds) != 1:
            raise ValueError(f"this recipe runs one seed at a time, got {list(self.seeds)!r}")

    def run(self) -> tuple[dict[str, Any], Figure]:
        """Figures (modes and KL of the samples, and of real test stacks for comparison) and a picture of samples."""
        seed = self.seeds[0]
        judge, accuracy = self._judge(seed)
        stream = stacked_mnist("train", size=self.batch, seed=seed)
        shares = stream.class_shares
        energy, net = self._networks(seed)
        entropy = LocalVolume(self.latent) if self.estimator == "local" else ImportancePosterior(self.latent)
        objective = VERA(
            net,
            entropy=entropy,
            entropy_weight=self.entropy_weight,
            gradient_penalty=self.gradient_penalty,
            penalty_at=self.penalty_at,
            entropy_samples=self.entropy_samples,
        )
        first, second = self.betas
        rates = {"energy": self.energy_lr, "posterior": self.generator_lr, "generator": self.generator_lr}
        players = objective.players(energy)
        looks = _Looks(net, judge, shares, self.evaluate_every, seed)
        engine = Engine(
            energy,
            objective,
            seed=seed,
            optimizer={name: OptimizerSettings(lr=rates[name], betas=(first, second)) for name in players},
            schedule=Constant(),
            ema=self.ema,
            callbacks=[looks],
            log_every=self.evaluate_every,
        )
        report = engine.fit(stream, steps=self.steps)
        images = _images(engine.averaged(net), self.samples, seed + 1)
        found = mode_coverage(classify_stacked(judge, images), _CLASSES, shares)
        real = next(stacked_mnist("test", size=self.samples, seed=seed + 2))
        floor = mode_coverage(classify_stacked(judge, real.x), _CLASSES, shares)
        figures = {
            "modes": found.modes,
            "kl": found.kl,
            "samples": self.samples,
            "modes_of_real_test_stacks": floor.modes,
            "kl_of_real_test_stacks": floor.kl,
            "classifier_accuracy_on_stacks": accuracy,
            "training_seconds": report.seconds - looks.seconds,
            "rounds": report.steps,
            "preset": self.preset,
            "estimator": self.estimator,
            "looks": looks.records,
        }
        title = f"StackedMNIST by VERA: {found.modes} of 1000 modes, KL {found.kl:.2f}"
        picture = plotting.image_grid(images[:60], columns=12, low=-1.0, high=1.0, title=title)
        return figures, picture

    def _networks(self, seed: int) -> tuple[ConvNet, DeconvGenerator]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            energy = ConvNet(channels=3, size=28, widths=self.energy_widths, activation="leaky_relu")
            net = DeconvGenerator(
                self.latent,
                channels=3,
                size=28,
                widths=self.generator_widths,
                sigma=self.sigma,
                sigma_bounds=(self.sigma, self.sigma),
            )
        return energy, net

    def _judge(self, seed: int) -> tuple[nn.Module, float]:
        """The classifier, and the share of real test stacks whose three digits it names right."""
        train = load_mnist("train")
        judge = train_image_classifier(train.x, train.y, seed=seed)
        stacks = next(stacked_mnist("test", size=4000, seed=seed))
        assert stacks.y is not None
        right = (classify_stacked(judge, stacks.x) == stacks.y).double().mean()
        return judge, float(right)


class _Looks(Callback):
    """Counts modes on few samples while training goes on: for the reader, never to choose by."""

    def __init__(self, net: DeconvGenerator, judge: nn.Module, shares: Tensor, every: int, seed: int) -> None:
        self._net, self._judge, self._shares, self._every, self._seed = net, judge, shares, every, seed
        self.seconds = 0.0  # spent looking
        self.records: list[dict[str, float]] = []

    def on_log(self, engine: Engine, record: Mapping[str, float]) -> None:
        """One look, printed: these runs are long."""
        began = time.perf_counter()
        images = _images(engine.averaged(self._net), 5000, self._seed)
        found = mode_coverage(classify_stacked(self._judge, images), _CLASSES, self._shares)
        look = {
            "round": engine.step,
            "modes_in_5000": found.modes,
            "kl_in_5000": found.kl,
            "energy_data": record["energy_data"],
            "energy_samples": record["energy_samples"],
            "sigma": record["sigma"],
        }
        self.records.append(look)
        self.seconds += time.perf_counter() - began
        print({name: round(value, 3) for name, value in look.items()}, flush=True)  # noqa: T201


@torch.no_grad()
def _images(net: DeconvGenerator, n: int, seed: int) -> Tensor:
    """Means without the noise, in [-1, 1]; batch statistics taken anew for averaged weights."""
    source = torch.Generator().manual_seed(seed)
    net.recalibrate(256, generator=source)
    net.eval()
    return torch.cat([net(net.latents(min(1000, n - start), source)) for start in range(0, n, 1000)])
