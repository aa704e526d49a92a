"""Densities and energies fitted to rows, each with its choices made on validation rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from sklearn.mixture import GaussianMixture as FittedMixture
from torch import Tensor, nn

import chainfree as cf
from chainfree.energies import Coordinates, Gaussian, Tilted
from chainfree.engine import Engine, HeldOut, OptimizerSettings
from chainfree.functional.importance import kish
from chainfree.generators import Flow
from chainfree.losses import DenoisingScoreMatching, EnergyDiscrepancy, MaximumLikelihood
from chainfree.perturbations import Gaussian as GaussianNoise
from chainfree.perturbations import LogUniform
from chainfree.typing import Density, Loss, Objective

from .networks import BaseOfPrepared, Correction, Experts, OfPrepared, PreparedNoise, Reader, log_prob, prepared
from .scale_mixture import EMSettings, ScaleMixture, fit_scale_mixture

_KDE_ROWS_AT_A_TIME = 1000
WATCHED, LEAST_ESS = 4000, 100  # validation rows that training is watched by; draws that log Z needs for that


@dataclass(frozen=True)
class Rows:
    """What models are fitted to and chosen by."""

    train: Tensor
    valid: Tensor


# -- densities ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class KernelDensity:
    """Normal kernels with the covariance of the rows times the squared bandwidth."""

    rows: Tensor
    bandwidth: float

    def log_prob(self, x: Tensor, /) -> Tensor:
        dim = x.shape[1]
        kernel = Gaussian.fit(self.rows, shrinkage=0.0)
        rows, queries = self.rows @ kernel.whiten.T, x @ kernel.whiten.T
        constant = kernel.log_z + dim * math.log(self.bandwidth) + math.log(len(rows))
        nearness = [
            torch.logsumexp(-0.5 * torch.cdist(part, rows).square() / self.bandwidth**2, 1)
            for part in queries.split(_KDE_ROWS_AT_A_TIME)
        ]
        return torch.cat(nearness) - constant


def kernel_density(
    rows: Rows, bandwidths: Sequence[float], most: int, probed: int
) -> tuple[KernelDensity, dict[str, float]]:
    kept = rows.train[torch.randperm(len(rows.train), generator=torch.Generator().manual_seed(0))[:most]]
    fits = [KernelDensity(kept, bandwidth) for bandwidth in bandwidths]
    scores = {str(fit.bandwidth): float(fit.log_prob(rows.valid[:probed]).mean()) for fit in fits}
    return max(fits, key=lambda fit: scores[str(fit.bandwidth)]), scores


@dataclass(frozen=True, kw_only=True)
class MixtureSettings:
    """Candidates for mixtures: shapes and sizes of each, and who fits them."""

    candidates: tuple[tuple[int, int], ...]
    steps: int = 0
    by_sklearn: bool = False


def mixtures(rows: Rows, settings: MixtureSettings) -> tuple[list[ScaleMixture], dict[str, float]]:
    """All candidates with their validation log-likelihoods, the best first."""
    fits: dict[str, ScaleMixture] = {}
    for shapes, sizes in settings.candidates:
        name = f"{shapes} shapes in {sizes} sizes" if sizes > 1 else f"{shapes} normals"
        fits[name] = (
            _sklearn_mixture(rows.train, shapes)
            if settings.by_sklearn
            else fit_scale_mixture(rows.train, EMSettings(shapes=shapes, sizes=sizes, steps=settings.steps))
        )
    scores = {name: float(fit.log_prob(rows.valid).mean()) for name, fit in fits.items()}
    scores = dict(sorted(scores.items(), key=lambda item: -item[1]))
    return [fits[name] for name in scores], scores


def _sklearn_mixture(x: Tensor, components: int) -> ScaleMixture:
    fit = FittedMixture(components, reg_covar=1e-4, max_iter=100, random_state=0).fit(x.double().numpy())
    means, covariances, weights = (torch.from_numpy(a) for a in (fit.means_, fit.covariances_, fit.weights_))
    return ScaleMixture(means, covariances, weights.unsqueeze(1), torch.ones(components, 1))


@dataclass(frozen=True, kw_only=True)
class FlowSettings:
    """Of a flow in zuko's families, see :class:`chainfree.generators.Flow`."""

    kind: str
    transforms: int
    width: int
    steps: int
    batch: int = 256
    lr: float = 2e-3


def flows(rows: Rows, candidates: Sequence[FlowSettings]) -> tuple[Flow, dict[str, float]]:
    """The best by validation, and the log-likelihoods of all."""
    fits = {f"{s.kind}, {s.transforms} of width {s.width}": flow(rows, s) for s in candidates}
    scores = {name: float(log_prob(fit, rows.valid).mean()) for name, fit in fits.items()}
    return fits[max(scores, key=scores.__getitem__)], scores


def flow(rows: Rows, settings: FlowSettings) -> Flow:
    """As :func:`chainfree.fit_flow`, but with the validation rows given."""
    torch.manual_seed(0)
    model = Flow(
        rows.train.shape[1],
        kind=settings.kind,  # type: ignore[arg-type]
        transforms=settings.transforms,
        width=settings.width,
        coordinates=Coordinates.fit(rows.train),
    )
    held_out = HeldOut(lambda averaged: -float(log_prob(averaged, rows.valid[:4000]).mean()), every=250, patience=8)
    engine = Engine(
        model,
        MaximumLikelihood(),
        seed=0,
        optimizer=OptimizerSettings(lr=settings.lr),
        clip=10.0,
        ema=0.99,
        callbacks=[held_out],
    )
    engine.fit(cf.batches(rows.train, size=settings.batch, seed=0), steps=settings.steps)
    fitted = engine.averaged_energy()
    assert isinstance(fitted, Flow)
    return fitted


# -- energies ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class TiltSettings:
    """Of a tilt: the experts, and how they are trained.

    Args:
        pool: draws of the noise that are made once; 0 for new ones every step.
        probes: draws of the base that the validation likelihood is normalised by.
    """

    steps: int
    experts: int = 256
    width: int = 256
    depth: int = 2
    bound: float = 5.0
    batch: int = 512
    lr: float = 2e-3
    weight_decay: float = 1e-2
    pool: int = 0
    every: int = 250
    patience: int = 8
    probes: int = 20_000


@dataclass
class Tilt:
    """A base, whose draws also give log Z on the way, what the experts read, and the rows."""

    base: Density
    reader: Reader
    rows: Rows
    settings: TiltSettings
    valid_log_likelihood: float = field(default=-math.inf, init=False)
    untrained: float = field(default=-math.inf, init=False)
    steps: int = field(default=0, init=False)
    learned: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        s = self.settings
        self.experts = Experts(
            self.reader.dim, self.reader.shapes, experts=s.experts, width=s.width, depth=s.depth, bound=s.bound
        )
        self.energy = Tilted(self.base, Correction(self.reader, self.experts))

    def by_contrast(self, noise: Density, loss: Callable[[Density], Loss | Objective]) -> None:
        """A loss with this noise, on prepared rows: what the experts read of the data is computed once."""
        draws = PreparedNoise(self.base, noise, self.reader, self.settings.pool)
        energy = Tilted(BaseOfPrepared(), OfPrepared(self.experts))  # type: ignore[arg-type]
        parts = (self.rows.train, self.rows.valid[:WATCHED], self._probes[0])
        data, valid, probes = (prepared(self.base, noise, self.reader, x) for x in parts)
        self._train(energy, loss(draws), data=data, valid=valid, probes=probes, lr=self.settings.lr)

    def by(self, loss: Loss, lr: float) -> None:
        """Any loss of rows."""
        valid, probes = self.rows.valid[:WATCHED], self._probes[0]
        self._train(self.energy, loss, data=self.rows.train, valid=valid, probes=probes, lr=lr)

    @cached_property
    def _probes(self) -> tuple[Tensor, Tensor]:
        """Draws of the base and their log-densities, the same each time."""
        x = self.base.sample(self.settings.probes, generator=torch.Generator().manual_seed(2))
        return x, log_prob(self.base, x)

    def _train(
        self, energy: Tilted, loss: Loss | Objective, *, data: Tensor, valid: Tensor, probes: Tensor, lr: float
    ) -> None:
        s, log_base = self.settings, self._probes[1].double()

        @torch.no_grad()
        def held_out(averaged: nn.Module) -> float:
            """Minus the validation log-likelihood, with log Z by importance sampling where that says anything."""
            weights = -_values(averaged, probes) - log_base
            if float(kish(weights)) < LEAST_ESS:
                return math.inf
            log_z = float(weights.logsumexp(0)) - math.log(len(weights))
            return float(_values(averaged, valid).mean()) + log_z

        watch = HeldOut(held_out, every=s.every, patience=s.patience)
        engine = Engine(
            energy,
            loss,
            seed=0,
            optimizer=OptimizerSettings(lr=lr, weight_decay=s.weight_decay),
            clip=10.0,
            ema=0.99,
            callbacks=[watch],
        )
        before = held_out(energy)
        report = engine.fit(cf.batches(data, size=min(s.batch, len(data)), seed=0), steps=s.steps)
        self.experts.load_state_dict(engine.averaged(self.experts).state_dict())
        self.energy.eval().requires_grad_(False)
        best = math.inf if watch.best is None else watch.best
        self.valid_log_likelihood, self.untrained, self.steps = -min(best, before), -before, report.steps
        self.learned = best < before
        if not self.learned:  # training never helped: the base itself
            nn.init.zeros_(self.experts.last.weight)
            nn.init.zeros_(self.experts.last.bias)
            nn.init.zeros_(self.experts.weights.weight)
            nn.init.zeros_(self.experts.weights.bias)


def energy_discrepancy(low: float, high: float) -> EnergyDiscrepancy:
    return EnergyDiscrepancy(perturbation=GaussianNoise(t=LogUniform(low=low, high=high)), draws=4)


def ranking(noise: Density) -> EnergyDiscrepancy:
    """Energy discrepancy whose noise forgets the datum, known as ranking NCE: rows ranked among all draws of the noise."""
    return EnergyDiscrepancy(reference=noise, share=1.0, draws=1, among=None)


def denoising(scale: float) -> DenoisingScoreMatching:
    return DenoisingScoreMatching(scale=scale)


def _values(energy: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return torch.cat([energy(part) for part in x.split(4096)]).double()
