"""Ways to train a decoder and the energy of its latents, by settings from a config file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import nn

from ...checks import require_in_unit_interval, require_positive, require_positive_int
from ...energies import MLP, ConvNet, Gaussian
from ...energies.analytic.base import AnalyticEnergy
from ...engine import Cosine, Engine, OptimizerSettings
from ...engine.callbacks import Callback
from ...generators import LatentGenerator, ResidualGenerator
from ...latent import (
    GaussianEncoder,
    ImageDecoder,
    LangevinPosterior,
    LangevinPrior,
    LatentsOfRows,
    RevisedPosterior,
    VariationalPosterior,
    image_decoder,
    latent_prior,
)
from ...losses import DenoisingScoreMatching, EnergyDiscrepancy, ShortRun
from ...objectives import VERA, LatentPrior
from ...perturbations import Gaussian as GaussianNoise
from ...perturbations import LogUniform
from ...samplers.chain import Chain
from ...typing import Loss, Objective

__all__ = ["LatentMethod", "LatentNetworks", "Training", "latent_methods"]

PosteriorKind = Literal["langevin", "variational", "revised"]
PriorKind = Literal["normal", "energy_discrepancy", "short_run", "denoising", "vera"]


@dataclass(frozen=True, kw_only=True)
class LatentNetworks:
    """What all methods of a comparison have in common.

    Args:
        decoder: see :func:`chainfree.latent.image_decoder`.
        latent: features of z.
        sigma: of the likelihood, for pixels in [-1, 1]; where training starts if ``learn_sigma``.
        learn_sigma: whether it is trained.
        encoder_widths: channels of the encoder's convolutions, where there is one.
        prior_widths: of the energy's perceptron.
    """

    decoder: ImageDecoder = "small"
    latent: int = 32
    sigma: float = 0.3
    learn_sigma: bool = False
    encoder_widths: Sequence[int] = (32, 64)
    prior_widths: Sequence[int] = (200, 200, 200)

    def __post_init__(self) -> None:
        require_positive_int("latent", self.latent)
        require_positive("sigma", self.sigma)
        if self.decoder not in get_args(ImageDecoder):
            raise ValueError(f"decoder must be one of {', '.join(get_args(ImageDecoder))}, got {self.decoder!r}")
        for name in ("encoder_widths", "prior_widths"):
            for width in getattr(self, name):
                require_positive_int(name, width)


@dataclass(frozen=True, kw_only=True)
class LatentMethod:
    """One method.

    Args:
        posterior: where the latents of rows come from: ``langevin`` from noise, ``variational`` from an encoder, ``revised``
            from an encoder and then by Langevin.
        posterior_steps, posterior_step_size: of the Langevin steps.
        revised_steps, revised_step_size: of Langevin steps that revise the draws of a variational encoder when training is
            over, for what rows are asked then; 0 for none.
        prior: how the energy of the latents is trained; ``normal`` has none.
        noise: variances that energy discrepancy, denoising score matching and a second stage perturb by: one, or the ends of
            a log-uniform range, which denoising has not.
        draws: of energy discrepancy.
        reference: share of the latents that are contrasted with the standard normal itself, below 1; 0 for none.
        chain_steps, chain_step_size: of Langevin on the prior: of the short runs that it is trained by, and else of samples.
        generator_width: of VERA's generator of latents.
        sigma: of the likelihood, in place of the networks' own.
        lr, prior_lr: of Adam, falling along a cosine.
        refit: whether there is a second stage, in which the networks stay as they are and the prior is fitted anew to the
            latents that the posterior then has: :func:`chainfree.fitting.fit_latent_prior`, with ``noise``, ``draws`` and
            ``prior_lr``.
        refit_components, refit_steps: of that fit; no steps for a mixture without a tilt.
        refit_rows: whose latents it is fitted to, at most; drawn by the training's posterior.
        proposals: for each sample, where there was a second stage.
    """

    posterior: PosteriorKind = "variational"
    posterior_steps: int = 20
    posterior_step_size: float = 0.01
    revised_steps: int = 0
    revised_step_size: float = 0.003
    prior: PriorKind = "energy_discrepancy"
    noise: Sequence[float] = (0.25,)
    draws: int = 16
    reference: float = 0.0
    chain_steps: int = 500
    chain_step_size: float = 0.04
    generator_width: int = 128
    sigma: float | None = None
    lr: float = 1e-3
    prior_lr: float = 1e-3
    refit: bool = False
    refit_components: int = 64
    refit_steps: int = 1500
    refit_rows: int = 60_000
    proposals: int = 16

    def __post_init__(self) -> None:
        for name, kinds in (("posterior", get_args(PosteriorKind)), ("prior", get_args(PriorKind))):
            if getattr(self, name) not in kinds:
                raise ValueError(f"{name} must be one of {', '.join(kinds)}, got {getattr(self, name)!r}")
        if len(self.noise) not in (1, 2):
            raise ValueError(f"noise must be one number or a range's two ends, got {list(self.noise)!r}")
        counts = ("posterior_steps", "draws", "chain_steps", "generator_width", "refit_components", "refit_rows")
        for name in (*counts, "proposals"):
            require_positive_int(name, getattr(self, name))
        sizes = ("posterior_step_size", "revised_step_size", "chain_step_size", "lr", "prior_lr")
        for name in (*sizes, *(["sigma"] if self.sigma is not None else [])):
            require_positive(name, getattr(self, name))
        require_in_unit_interval("reference", self.reference)
        for value in self.noise:
            require_positive("noise", value)
        if self.prior == "denoising" and len(self.noise) == 2:
            raise ValueError(f"denoising has one noise, got {list(self.noise)!r}")
        if self.noise[0] > self.noise[-1]:
            raise ValueError(f"noise must be a range from low to high, got {list(self.noise)!r}")
        if not isinstance(self.refit, bool):
            raise ValueError(f"refit must be true or false, got {self.refit!r}")
        for name in ("refit_steps", "revised_steps"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ValueError(f"{name} must be a whole number of at least 0, got {value!r}")
        if self.revised_steps and self.posterior != "variational":
            raise ValueError(
                f"revised_steps are of the draws of a variational encoder, got posterior {self.posterior!r}"
            )

    @property
    def chain(self) -> LangevinPrior:
        """Langevin on the prior."""
        return LangevinPrior(steps=self.chain_steps, step_size=self.chain_step_size)

    def training(self, networks: LatentNetworks, *, size: int, channels: int, seed: int) -> Training:
        """The networks with first weights from the seed, and what trains them."""
        with torch.random.fork_rng(devices=[]):  # layers take their first weights from the global generator
            torch.manual_seed(seed)
            decoder = image_decoder(
                networks.decoder,
                networks.latent,
                channels=channels,
                size=size,
                sigma=networks.sigma if self.sigma is None else self.sigma,
                learn_sigma=networks.learn_sigma,
            )
            width = tuple(networks.prior_widths)
            prior = latent_prior(MLP(networks.latent, width=width, depth=len(width)), networks.latent)
            encoder = GaussianEncoder(
                ConvNet(channels=channels, size=size, widths=networks.encoder_widths, outputs=2 * networks.latent),
                networks.latent,
            )
        assert isinstance(prior.base, AnalyticEnergy)
        return Training(self, prior, LatentPrior(decoder, self._posterior(encoder), self.rule(prior.base)), seed)

    def in_use(self, trained: LatentsOfRows) -> LatentsOfRows:
        """What rows are asked by when training is over, of the posterior that it had."""
        if not self.revised_steps:
            return trained
        assert isinstance(trained, VariationalPosterior)
        return RevisedPosterior(encoder=trained.encoder, steps=self.revised_steps, step_size=self.revised_step_size)

    def _posterior(self, encoder: GaussianEncoder) -> LangevinPosterior | VariationalPosterior | RevisedPosterior:
        if self.posterior == "variational":
            return VariationalPosterior(encoder=encoder)
        steps, step_size = self.posterior_steps, self.posterior_step_size
        if self.posterior == "revised":
            return RevisedPosterior(encoder=encoder, steps=steps, step_size=step_size)
        return LangevinPosterior(steps=steps, step_size=step_size)

    def rule(self, base: AnalyticEnergy) -> Loss | Objective | None:
        """What the prior's energy, which tilts ``base``, is trained by."""
        if self.prior == "normal":
            return None
        if self.prior == "denoising":
            return DenoisingScoreMatching(scale=math.sqrt(self.noise[0]))
        if self.prior == "short_run":
            chain = Chain(steps=self.chain_steps, step_size=self.chain_step_size)
            return ShortRun(initial=Gaussian(torch.zeros(base.dim)), chain=chain)
        if self.prior == "vera":
            return VERA(ResidualGenerator(base.dim, base.dim, width=self.generator_width))
        t = self.noise[0] if len(self.noise) == 1 else LogUniform(low=self.noise[0], high=self.noise[1])
        return EnergyDiscrepancy(
            perturbation=GaussianNoise(t=t),
            draws=self.draws,
            reference=base if self.reference else None,
            share=self.reference or 0.5,
        )


class Training(NamedTuple):
    """A method's networks.

    Args:
        method: its settings.
        prior: energy of the latents.
        objective: with the decoder and, where there is one, the encoder.
        seed: of the training.
    """

    method: LatentMethod
    prior: nn.Module
    objective: LatentPrior
    seed: int

    @property
    def decoder(self) -> LatentGenerator:
        """From latents to images."""
        return self.objective.decoder

    def engine(self, callbacks: Sequence[Callback] = (), *, device: torch.device | str = "cpu") -> Engine:
        """Trains them."""
        rates = {"energy": self.method.prior_lr}
        optimizer = {
            name: OptimizerSettings(lr=rates.get(name, self.method.lr)) for name in self.objective.players(self.prior)
        }
        return Engine(
            self.prior,
            self.objective,
            seed=self.seed,
            optimizer=optimizer,
            schedule=Cosine(),
            device=device,
            callbacks=callbacks,
        )


def latent_methods(given: Mapping[str, Mapping[str, Any]]) -> dict[str, LatentMethod]:
    """Methods by name.

    Raises:
        ValueError: none, a setting that no method has, or one out of its range.
    """
    if not given:
        raise ValueError("methods must name at least one, got none")
    known = {field.name for field in fields(LatentMethod)}
    found = {}
    for name, settings in given.items():
        if unknown := settings.keys() - known:
            raise ValueError(f"methods.{name} has {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}")
        try:
            found[name] = LatentMethod(**settings)
        except (TypeError, ValueError) as error:
            raise ValueError(f"methods.{name}: {error}") from error
    return found
