"""Why images want an energy of their latents: energy discrepancy in pixels, under a mean-pool, and in a decoder's latents.

Schroeder et al., NeurIPS 2023, arXiv 2307.06431, section 5.3: images lie near a sheet of few dimensions, and noise leaves it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from ... import plotting
from ...batches import batches
from ...checks import energy_values, require_positive, require_positive_int
from ...datasets import scaled_pixels
from ...energies import ConvNet
from ...engine import Cosine, Engine, OptimizerSettings
from ...evaluation import anomaly_scores
from ...latent import LatentModel
from ...losses import EnergyDiscrepancy
from ...perturbations import Gaussian, MeanPool, Perturbation
from ...samplers import langevin
from ..checks import require_each, require_seeds
from .methods import LatentMethod, LatentNetworks, latent_methods
from .runs import Run, Schedule, images_for, trained

__all__ = ["PixelsAndLatents"]

_SHOWN = 12
_JUDGED = 2000  # images of a kind


@dataclass(frozen=True, kw_only=True)
class PixelsAndLatents:
    """Settings of the experiment.

    Energies of pixels, by energy discrepancy with noise and under a mean-pool, and decoders whose latents have an energy,
    judge test images and what they are not: the same images with a little noise, the middle of two of them, and images of
    another data set. A latent model judges by -log p(x, z), and by either of its terms alone.

    Args:
        t: variance of the Gaussian noise on pixels in [-1, 1].
        window, pooled_t: of :class:`chainfree.perturbations.MeanPool`.
        draws: of energy discrepancy on pixels.
        widths: channels of the energies of pixels.
        steps, batch, lr: of their training.
        chain_steps, chain_step_size: of Langevin on them, which starts in noise.
        noise: standard deviation of the noise on images that are judged.
        floors: variances, in mean variances of a feature, at which it is measured what the loss has left to learn.
        methods, networks, schedule: of the latent models, as in the other recipes.
        seeds: one.
    """

    t: float = 0.1
    window: int = 2
    pooled_t: float = 0.1
    draws: int = 8
    widths: Sequence[int] = (32, 64, 128)
    steps: int = 1500
    batch: int = 64
    lr: float = 1e-3
    chain_steps: int = 500
    chain_step_size: float = 0.002
    noise: float = 0.1
    floors: Sequence[float] = (0.01, 0.1, 1.0)
    methods: Mapping[str, Mapping[str, Any]]
    networks: Mapping[str, Any] = field(default_factory=dict)
    schedule: Mapping[str, Any] = field(default_factory=dict)
    seeds: Sequence[int] = (0,)

    def __post_init__(self) -> None:
        for name in ("t", "pooled_t", "lr", "chain_step_size", "noise"):
            require_positive(name, getattr(self, name))
        for name in ("window", "draws", "steps", "batch", "chain_steps"):
            require_positive_int(name, getattr(self, name))
        require_each("floors", self.floors, require_positive)
        latent_methods(self.methods)
        LatentNetworks(**self.networks)
        Schedule(**self.schedule)
        require_seeds(self.seeds)
        if len(self.seeds) != 1:
            raise ValueError(f"this recipe runs one seed at a time, got {list(self.seeds)!r}")

    def run(self) -> tuple[dict[str, Any], Figure]:
        """AUROC of every energy against every kind, what is left to learn at the end, and images by their energy."""
        seed = self.seeds[0]
        source = torch.Generator().manual_seed(seed)
        x, kinds = self._images(source)
        energies: dict[str, Callable[[Tensor], Tensor]] = {}
        samples: dict[str, Tensor] = {}
        figures: dict[str, Any] = {"auroc": {}, "loss_above_floor": {}, "seconds": {}}
        kinds_of_noise: dict[str, tuple[float, Callable[[float], Perturbation]]] = {
            "pixels": (self.t, lambda t: Gaussian(t=t)),
            "mean-pool": (self.pooled_t, lambda t: MeanPool(window=self.window, t=t)),
        }
        for name, (t, noise) in kinds_of_noise.items():
            loss = EnergyDiscrepancy(perturbation=noise(t), draws=self.draws)
            energy, figures["seconds"][name] = self._trained(x, loss, seed)
            figures["loss_above_floor"][name] = self._above_floors(noise, energy, kinds["images"], source)
            start = torch.randn(_SHOWN, *x.shape[1:], generator=source)
            samples[name] = langevin(
                energy, start, steps=self.chain_steps, step_size=self.chain_step_size, generator=source
            )
            energies[name] = energy
        for name, settings in self.methods.items():
            run = trained(
                x, LatentMethod(**settings), LatentNetworks(**self.networks), Schedule(**self.schedule), seed=seed
            )
            figures["seconds"][name] = run.seconds
            samples[name] = run.model.sample(_SHOWN, run.prior, generator=source)
            energies |= {
                name: _of_all(run, source),
                f"{name}: likelihood": _of_part(run, source, lambda model, rows, z: -model.log_conditional(rows, z)),
                f"{name}: prior": _of_part(run, source, lambda model, _, z: energy_values(model.prior, z)),
            }
            if settings.get("prior") != "normal":
                latents = run.posterior.latents(run.model, kinds["images"], generator=source)
                figures["loss_above_floor"][name] = self._above_floors(
                    lambda t: Gaussian(t=t), run.model.prior, latents, source
                )
        found = {name: {kind: _in_parts(of, rows) for kind, rows in kinds.items()} for name, of in energies.items()}
        for name, by_kind in found.items():
            figures["auroc"][name] = {
                kind: anomaly_scores(
                    torch.cat([by_kind["images"], values]), torch.arange(2 * _JUDGED).ge(_JUDGED).long()
                ).auroc
                for kind, values in by_kind.items()
                if kind != "images"
            }
        figures["trained_on"] = Schedule(**self.schedule).trained_on
        figures["settings"] = {**asdict(self), "seeds": list(self.seeds)}
        return figures, _picture(kinds, {name: found[name] for name in samples}, samples)

    def _images(self, source: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Training images, and as many of every kind to be judged."""
        train, test = images_for("mnist", "test")
        digits = scaled_pixels(test.x[torch.randperm(len(test), generator=source)])
        judged, others = digits[:_JUDGED], digits[_JUDGED : 2 * _JUDGED]
        clothes = scaled_pixels(images_for("fashion_mnist", "test")[1].x[:_JUDGED])
        noisy = judged + self.noise * torch.randn(judged.shape, generator=source)
        middles = 0.5 * (judged + others)
        return scaled_pixels(train.x), {"images": judged, "noise": noisy, "middles": middles, "clothes": clothes}

    def _trained(self, x: Tensor, loss: EnergyDiscrepancy, seed: int) -> tuple[nn.Module, float]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            energy = ConvNet(channels=x.shape[1], size=x.shape[2], widths=self.widths)
        optimizer = OptimizerSettings(lr=self.lr)
        engine = Engine(energy, loss, seed=seed, optimizer=optimizer, schedule=Cosine(), ema=0.99)
        began = time.perf_counter()
        report = engine.fit(batches(x, size=self.batch, seed=seed), steps=self.steps)
        if report.stopped == "interrupted":
            raise KeyboardInterrupt(f"training was stopped by {engine.interrupted_by} at step {report.steps}")
        return engine.averaged(), time.perf_counter() - began

    def _above_floors(
        self, noise: Callable[[float], Perturbation], energy: Any, rows: Tensor, source: torch.Generator
    ) -> dict[str, float]:
        """What is left of the loss, by the noise's variance in mean variances of a feature."""
        variance = float(rows.flatten(1).var(0).mean())
        return {
            str(share): above_floor(
                EnergyDiscrepancy(perturbation=noise(share * variance), draws=self.draws), energy, rows, source
            )
            for share in self.floors
        }


@torch.no_grad()
def above_floor(loss: EnergyDiscrepancy, energy: Any, rows: Tensor, source: torch.Generator) -> float:
    """Nats above log(w/M), the infimum, where all draws are told from their row and no gradient is left."""
    values = [loss(energy, part, generator=source).loss for part in rows.split(100)]
    return float(torch.stack(values).double().mean()) - math.log(loss.w / loss.draws)


def _of_all(run: Run, source: torch.Generator) -> Callable[[Tensor], Tensor]:
    return lambda rows: run.model.anomaly_score(rows, run.posterior, draws=4, generator=source).joint


def _of_part(
    run: Run, source: torch.Generator, part: Callable[[LatentModel, Tensor, Tensor], Tensor]
) -> Callable[[Tensor], Tensor]:
    return lambda rows: part(run.model, rows, run.posterior.latents(run.model, rows, generator=source))


@torch.no_grad()
def _in_parts(energy: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    return torch.cat([energy(part) for part in rows.split(250)]).double()


def _picture(
    kinds: Mapping[str, Tensor], found: Mapping[str, Mapping[str, Tensor]], samples: Mapping[str, Tensor]
) -> Figure:
    """A row of every kind; by every energy, images of all kinds from the likeliest to the least likely, and samples."""
    rows = [images[:_SHOWN] for images in kinds.values()]
    names = [f"test {kind}" if kind == "images" else kind for kind in kinds]
    pooled = torch.cat([images[:_JUDGED] for images in kinds.values()])
    for name, by_kind in found.items():
        order = torch.cat(list(by_kind.values())).argsort()
        places = torch.linspace(0, len(order) - 1, _SHOWN).long()
        rows += [pooled[order[places]], samples[name]]
        names += [f"{name}: by energy", f"{name}: samples"]
    return plotting.image_grid(
        torch.cat(rows).clamp(-1, 1),
        columns=_SHOWN,
        low=-1.0,
        high=1.0,
        row_names=names,
        title="What is likely, from left to right, by energies of pixels and of latents",
    )
