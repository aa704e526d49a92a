"""The losses, each with the settings that the search may choose from."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.density2d.networks import FourierField, fitted_flow, fitted_mixture, normal, tilted_normal
from chainfree.energies import FourierMLP, Telescope, Tilted
from chainfree.engine import OptimizerSettings
from chainfree.entropy import PriorBank
from chainfree.generators import ResidualGenerator
from chainfree.generators.critics import MLPCritic
from chainfree.generators.flows import Flow
from chainfree.losses import (
    ConditionalNCE,
    ContrastiveDivergence,
    DenoisingScoreMatching,
    EnergyDiscrepancy,
    FiniteDifferenceScoreMatching,
    MaximumLikelihood,
    RecoveryLikelihood,
    ScoreMatching,
    ShortRun,
    SlicedScoreMatching,
    TelescopingRatios,
)
from chainfree.objectives import (
    MEG,
    VERA,
    Cooperative,
    FlowContrastive,
    LearnedStein,
    NoiseContrastive,
    PersistentContrastiveDivergence,
    WeightedNegatives,
)
from chainfree.perturbations import Gaussian as GaussianNoise
from chainfree.perturbations import JumpPairs, LocalPairs, LogUniform
from chainfree.samplers.chain import Chain
from chainfree.samplers.replay import ReplayBuffer
from chainfree.typing import Loss, Objective

__all__ = ["METHODS", "Method", "Trainable"]

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Trainable:
    """An energy over standardised rows, and what trains it."""

    energy: nn.Module
    objective: Loss | Objective
    optimizer: OptimizerSettings | dict[str, OptimizerSettings]


@dataclass(frozen=True)
class Method:
    """A loss with its candidates.

    Args:
        title: for tables and pictures.
        make: from standardised rows, settings and a seed; what is fitted to the rows here counts into the budget.
        candidates: six for every method, of which the search takes one.
        chains: it runs Markov chains while it trains.
        ours: a form of energy discrepancy or of VERA, the two methods that this project stands for.
    """

    title: str
    make: Callable[[Tensor, Settings, int], Trainable]
    candidates: tuple[Settings, ...] = field(repr=False)
    chains: bool = False
    ours: bool = False


def _adam(settings: Settings, betas: tuple[float, float] = (0.9, 0.999)) -> OptimizerSettings:
    return OptimizerSettings(lr=settings["lr"], betas=betas)


def _grid(**choices: tuple[Any, ...]) -> tuple[Settings, ...]:
    """Every combination."""
    rows: list[dict[str, Any]] = [{}]
    for name, values in choices.items():
        rows = [{**row, name: value} for row in rows for value in values]
    return tuple(rows)


def _single(loss: Callable[[Settings], Loss]) -> Callable[[Tensor, Settings, int], Trainable]:
    """A loss that needs nothing of the rows."""

    def make(rows: Tensor, settings: Settings, seed: int) -> Trainable:
        return Trainable(tilted_normal(seed), loss(settings), _adam(settings))

    return make


def _energy_discrepancy(settings: Settings) -> Loss:
    low, high = settings["t"]
    return EnergyDiscrepancy(perturbation=GaussianNoise(t=LogUniform(low=low, high=high)), draws=settings["draws"])


def _referenced(settings: Settings) -> Loss:
    return EnergyDiscrepancy(
        perturbation=GaussianNoise(t=LogUniform(low=0.01, high=1.0)),
        draws=settings["draws"],
        reference=normal(settings["scale"]),
        share=settings["share"],
    )


def _ranking(settings: Settings, among: int | None) -> Loss:
    """With all rows against the reference, no noise is left: energy discrepancy is the ranking form of NCE."""
    return EnergyDiscrepancy(reference=normal(settings["scale"]), share=1.0, draws=settings["draws"], among=among)


def _vera(rows: Tensor, settings: Settings, seed: int) -> Trainable:
    negatives = WeightedNegatives(defensive=normal(1.5), share=settings["share"])
    objective = VERA(
        ResidualGenerator(2, 2),
        entropy=PriorBank(),
        gradient_penalty=0.0,
        negatives=negatives,
        samples=settings["samples"],
    )
    return Trainable(tilted_normal(seed), objective, _adam(settings, (0.5, 0.99)))


def _meg(rows: Tensor, settings: Settings, seed: int) -> Trainable:
    objective = MEG(
        ResidualGenerator(2, 2),
        MLPCritic(2, 2),
        gradient_penalty=settings["penalty"],
        penalty_at="both",
        samples=256,
    )
    return Trainable(tilted_normal(seed), objective, _adam(settings, (0.5, 0.99)))


def _cooperative(rows: Tensor, settings: Settings, seed: int) -> Trainable:
    objective = Cooperative(
        ResidualGenerator(2, 2),
        steps=10,
        step_size=settings["step_size"],
        inference_steps=2,
        energy_square=settings["energy_square"],
    )
    return Trainable(tilted_normal(seed), objective, _adam(settings, (0.5, 0.99)))


def _nce_normal(rows: Tensor, settings: Settings, seed: int) -> Trainable:
    noise = NoiseContrastive(normal(settings["scale"]), ratio=settings["ratio"])
    return Trainable(tilted_normal(seed), noise, _adam(settings))


def _nce_mixture(rows: Tensor, settings: Settings, seed: int) -> Trainable:
    noise = fitted_mixture(rows, settings["components"], seed)
    return Trainable(tilted_normal(seed), NoiseContrastive(noise, ratio=2), _adam(settings))


def _nce_flow(rows: Tensor, settings: Settings, seed: int) -> Trainable:
    """The energy tilts the noise: a flow that is nowhere zero has no wide part to be added."""
    noise = fitted_flow(rows, settings["flow_steps"], seed)
    energy = Tilted(noise, FourierMLP(2, seed=seed))
    return Trainable(energy, NoiseContrastive(noise, ratio=1), _adam(settings))


def _flow_contrastive(rows: Tensor, settings: Settings, seed: int) -> Trainable:
    flow = fitted_flow(rows, settings["flow_steps"], seed)
    energy = Tilted(copy.deepcopy(flow), FourierMLP(2, seed=seed))
    optimizer = {"energy": _adam(settings), "flow": OptimizerSettings(lr=settings["flow_lr"])}
    return Trainable(energy, FlowContrastive(flow.requires_grad_()), optimizer)


def _jumps(rows: Tensor, settings: Settings, seed: int) -> Trainable:
    pairs = JumpPairs(jump=fitted_mixture(rows, settings["components"], seed), scale=settings["scale"])
    return Trainable(tilted_normal(seed), ConditionalNCE(pairs=pairs, draws=4), _adam(settings))


def _telescoping(rows: Tensor, settings: Settings, seed: int) -> Trainable:
    bridges = [FourierMLP(2, seed=10 * seed + k) for k in range(settings["bridges"])]
    return Trainable(Telescope(normal(), bridges), TelescopingRatios(power=1.5), _adam(settings))


def _persistent(rows: Tensor, settings: Settings, seed: int) -> Trainable:
    start, (step_size, adjusted) = normal(1.5), settings["steps"]
    buffer = ReplayBuffer(start.sample(5000, generator=torch.Generator().manual_seed(seed)))
    objective = PersistentContrastiveDivergence(
        buffer,
        chain=Chain(steps=5, step_size=step_size, adjusted=adjusted),
        initial=start,
        restarts=0.05,
        energy_square=settings["energy_square"],
    )
    return Trainable(tilted_normal(seed), objective, _adam(settings))


def _stein(rows: Tensor, settings: Settings, seed: int) -> Trainable:
    critic = FourierField(width=128, seed=seed + 1)
    objective = LearnedStein(critic, penalty=settings["penalty"], critic_steps=settings["critic_steps"])
    return Trainable(tilted_normal(seed), objective, _adam(settings, (0.5, 0.99)))


def _likelihood(rows: Tensor, settings: Settings, seed: int) -> Trainable:
    flow = Flow(2, transforms=settings["transforms"], width=settings["width"])
    return Trainable(flow, MaximumLikelihood(), _adam(settings))


METHODS: dict[str, Method] = {
    "energy_discrepancy": Method(
        "Energy discrepancy",
        _single(_energy_discrepancy),
        _grid(lr=(4e-3, 8e-3), t=((0.01, 1.0),), draws=(1, 2, 4)),
        ours=True,
    ),
    "energy_discrepancy_reference": Method(
        "Energy discrepancy, reference",
        _single(_referenced),
        _grid(lr=(8e-3,), share=(0.95,), draws=(1, 2), scale=(1.0, 1.3, 1.6)),
        ours=True,
    ),
    "ranking_pairs": Method(
        "Ranking NCE, pairs", _single(lambda s: _ranking(s, 1)), _grid(lr=(8e-3,), draws=(1, 2), scale=(1.0, 1.3, 1.6))
    ),
    "ranking_all": Method(
        "Ranking NCE, all draws",
        _single(lambda s: _ranking(s, None)),
        _grid(lr=(8e-3,), draws=(1, 2), scale=(1.0, 1.3, 1.6)),
    ),
    "vera": Method(
        "VERA, weighted",
        _vera,
        _grid(lr=(1e-3, 2e-3, 4e-3), samples=(128, 256), share=(0.25,)),
        ours=True,
    ),
    "meg": Method("MEG", _meg, _grid(lr=(5e-4, 1e-3), penalty=(0.03, 0.1, 0.3))),
    "cooperative": Method(
        "Cooperative",
        _cooperative,
        _grid(lr=(1e-3,), energy_square=(0.15, 0.5), step_size=(0.003, 0.01, 0.03)),
        chains=True,
    ),
    "score_matching": Method(
        "Score matching", _single(lambda s: ScoreMatching()), _grid(lr=(3e-4, 6e-4, 1e-3, 2e-3, 4e-3, 8e-3))
    ),
    "sliced": Method(
        "Sliced",
        _single(lambda s: SlicedScoreMatching(projections=s["projections"], variance_reduction=False)),
        _grid(lr=(5e-4, 1e-3, 3e-3), projections=(1, 4)),
    ),
    "sliced_reduced": Method(
        "Sliced, reduced variance",
        _single(lambda s: SlicedScoreMatching(projections=s["projections"])),
        _grid(lr=(5e-4, 1e-3, 3e-3), projections=(1, 4)),
    ),
    "denoising": Method(
        "Denoising",
        _single(lambda s: DenoisingScoreMatching(scale=s["scale"])),
        _grid(lr=(2e-3, 4e-3), scale=(0.03, 0.06, 0.12)),
    ),
    "denoising_scales": Method(
        "Denoising, many scales",
        _single(lambda s: DenoisingScoreMatching(scale=s["scale"], spread=s["spread"])),
        _grid(lr=(4e-3,), scale=(0.03, 0.06), spread=(3.0, 10.0, 30.0)),
    ),
    "finite_difference": Method(
        "Finite differences",
        _single(lambda s: FiniteDifferenceScoreMatching(step=s["step"])),
        _grid(lr=(1e-3, 4e-3), step=(0.03, 0.06, 0.12)),
    ),
    "nce": Method("NCE, normal noise", _nce_normal, _grid(lr=(8e-3,), ratio=(1, 2), scale=(1.0, 1.3, 1.6))),
    "nce_mixture": Method("NCE, mixture noise", _nce_mixture, _grid(lr=(4e-3, 8e-3), components=(10, 20, 40))),
    "nce_flow": Method("NCE, flow noise", _nce_flow, _grid(lr=(4e-3, 8e-3), flow_steps=(50, 150, 300))),
    "flow_contrastive": Method(
        "Flow contrastive",
        _flow_contrastive,
        _grid(lr=(2e-3, 4e-3), flow_steps=(100,), flow_lr=(1e-4, 3e-4, 1e-3)),
    ),
    "conditional_nce": Method(
        "Conditional NCE, local",
        _single(
            lambda s: ConditionalNCE(pairs=LocalPairs(scale=s["scale"], spread=s["spread"]), draws=4),
        ),
        _grid(lr=(2e-3, 4e-3), scale=(0.1,), spread=(1.0, 5.0, 20.0)),
    ),
    "conditional_nce_jumps": Method(
        "Conditional NCE, jumps", _jumps, _grid(lr=(2e-3, 4e-3), components=(10,), scale=(0.1, 0.2, 0.4))
    ),
    "telescoping": Method("Telescoping ratios", _telescoping, _grid(lr=(2e-3, 4e-3), bridges=(2, 4, 6))),
    "contrastive_divergence": Method(
        "CD-10",
        _single(lambda s: ContrastiveDivergence(chain=Chain(steps=10, step_size=s["step_size"], adjusted=True))),
        _grid(lr=(1e-3, 4e-3), step_size=(0.03, 0.1, 0.3)),
        chains=True,
    ),
    "persistent": Method(
        "Persistent CD",
        _persistent,
        _grid(lr=(1e-3,), energy_square=(0.05, 0.15), steps=((0.01, False), (0.03, True), (0.1, True))),
        chains=True,
    ),
    "short_run": Method(
        "Short runs",
        _single(
            lambda s: ShortRun(
                initial=normal(1.5),
                chain=Chain(steps=30, step_size=0.1, adjusted=True),
                energy_square=s["energy_square"],
            )
        ),
        _grid(lr=(1e-3, 2e-3), energy_square=(0.02, 0.05, 0.15)),
        chains=True,
    ),
    "stein": Method("Learned Stein", _stein, _grid(lr=(5e-4, 1e-3, 2e-3), penalty=(0.5,), critic_steps=(1, 5))),
    "recovery": Method(
        "Recovery likelihood",
        _single(lambda s: RecoveryLikelihood(scale=s["scale"], chain=Chain(steps=8, step_size=0.5, adjusted=True))),
        _grid(lr=(1e-3, 4e-3), scale=(0.1, 0.2, 0.3)),
        chains=True,
    ),
    "likelihood": Method(
        "Maximum likelihood of a flow", _likelihood, _grid(lr=(2e-3, 5e-3), transforms=(1, 2, 3), width=(64,))
    ),
}
