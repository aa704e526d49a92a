"""Every objective keeps the protocol of `chainfree.typing.Objective`, and survives being stopped and resumed."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import chainfree as cf
from chainfree import objectives
from chainfree.checks import ContractError
from chainfree.energies import MLP, Gaussian, JointEnergy
from chainfree.engine import Callback, Engine, latest_checkpoint
from chainfree.entropy import HMCPosterior, ImportancePosterior, PreconditionedSteps, PriorBank
from chainfree.generators import LatentGenerator, MLPGenerator
from chainfree.generators.critics import MLPCritic
from chainfree.generators.flows import Flow
from chainfree.latent import GaussianEncoder, LangevinPosterior, RevisedPosterior, VariationalPosterior
from chainfree.losses import DenoisingScoreMatching, EnergyDiscrepancy, ScoreMatching, ShortRun
from chainfree.objectives import (
    MEG,
    VERA,
    Amortised,
    Cooperative,
    FlowContrastive,
    Joint,
    LatentPrior,
    LearnedStein,
    NoiseContrastive,
    PersistentContrastiveDivergence,
    Single,
    VirtualAdversarial,
    WeightedNegatives,
)
from chainfree.samplers.chain import Chain
from chainfree.samplers.replay import ReplayBuffer
from chainfree.typing import Batch, Objective, Update


def _net(*, batch_norm: bool = False) -> LatentGenerator:
    return MLPGenerator(2, 2, width=6, depth=1, batch_norm=batch_norm)


def _encoder() -> GaussianEncoder:
    return GaussianEncoder(MLP(2, width=6, outputs=4), 2)


def _weighted(**options: Any) -> WeightedNegatives:
    return WeightedNegatives(defensive=Gaussian(torch.zeros(2), 4 * torch.eye(2)), **options)


def _wide() -> Gaussian:
    return Gaussian(torch.zeros(2), 4 * torch.eye(2))


def _persistent(**options: Any) -> PersistentContrastiveDivergence:
    buffer = ReplayBuffer(torch.randn(64, 2, generator=_seeded(9)))
    return PersistentContrastiveDivergence(buffer, chain=Chain(steps=2), **options)


# an objective and its players, in the order of their turns in a round
CASES: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "single": (lambda: Single(EnergyDiscrepancy(draws=4)), ["energy"]),
    "latent": (
        lambda: LatentPrior(_net(), LangevinPosterior(steps=2), EnergyDiscrepancy(draws=4)),
        ["decoder", "energy"],
    ),
    "latent-variational": (
        lambda: LatentPrior(_net(), VariationalPosterior(encoder=_encoder()), EnergyDiscrepancy(draws=4)),
        ["decoder", "energy"],
    ),
    "latent-revised": (
        lambda: LatentPrior(_net(), RevisedPosterior(encoder=_encoder(), steps=2), EnergyDiscrepancy(draws=4)),
        ["decoder", "encoder", "energy"],
    ),
    "latent-short-run": (
        lambda: LatentPrior(
            _net(), LangevinPosterior(steps=2), ShortRun(initial=Gaussian(torch.zeros(2)), chain=Chain(steps=2))
        ),
        ["decoder", "energy"],
    ),
    "latent-denoising": (
        lambda: LatentPrior(_net(), LangevinPosterior(steps=2), DenoisingScoreMatching(scale=0.5)),
        ["decoder", "energy"],
    ),
    "latent-vera": (
        lambda: LatentPrior(_net(), VariationalPosterior(encoder=_encoder()), VERA(_net())),
        ["decoder", "energy", "generator"],
    ),
    "single-deterministic": (lambda: Single(ScoreMatching()), ["energy"]),
    "vera": (lambda: VERA(_net()), ["energy", "generator"]),
    "vera-paper": (lambda: VERA(_net(), entropy=ImportancePosterior(2)), ["energy", "posterior", "generator"]),
    "vera-hmc": (lambda: VERA(_net(), entropy=HMCPosterior(), energy_square=0.1), ["energy", "generator"]),
    "vera-volume-batch-norm": (
        lambda: VERA(_net(batch_norm=True), entropy_samples=6, generator_steps=2),
        ["energy", "generator", "generator"],
    ),
    "vera-hmc-batch-norm": (
        lambda: VERA(_net(batch_norm=True), entropy=HMCPosterior(identity="covariance")),
        ["energy", "generator"],
    ),
    "vera-batch-norm": (
        lambda: VERA(_net(batch_norm=True), entropy=PreconditionedSteps(2, kind="langevin"), samples=9),
        ["energy", "posterior", "generator"],
    ),
    "vera-weighted": (
        lambda: VERA(_net(), samples=12, negatives=_weighted(clip=4.0), entropy=PriorBank(extra=3)),
        ["energy", "generator"],
    ),
    "vera-turns": (
        lambda: VERA(
            _net(), samples=12, negatives=_weighted(), entropy=ImportancePosterior(2), energy_steps=2, generator_steps=3
        ),
        ["energy", "energy", "posterior", "generator", "generator", "generator"],
    ),
    "meg": (lambda: MEG(_net(), MLPCritic(2, 2, width=6, depth=1)), ["energy", "critic", "generator"]),
    "meg-turns": (
        lambda: MEG(_net(batch_norm=True), MLPCritic(2, 2, width=6, depth=1), energy_square=0.1, energy_steps=2),
        ["energy", "energy", "critic", "generator"],
    ),
    "cooperative": (lambda: Cooperative(_net(), steps=2, inference_steps=2), ["energy", "generator"]),
    "cooperative-batch-norm": (
        lambda: Cooperative(_net(batch_norm=True), steps=2, inference_steps=2),
        ["energy", "generator"],
    ),
    "cooperative-known-latents": (
        lambda: Cooperative(_net(batch_norm=True), steps=2, gradient_penalty=0.1, samples=9),
        ["energy", "generator"],
    ),
    "nce": (lambda: NoiseContrastive(_wide()), ["energy"]),
    "nce-many": (lambda: NoiseContrastive(_wide(), ratio=3, log_z=1.0), ["energy"]),
    "persistent": (lambda: _persistent(energy_square=0.1), ["energy"]),
    "persistent-fresh": (lambda: _persistent(initial=_wide(), restarts=0.3, samples=6), ["energy"]),
    "stein": (
        lambda: LearnedStein(nn.Sequential(nn.Linear(2, 6), nn.SiLU(), nn.Linear(6, 2)), critic_steps=2),
        ["critic", "critic", "energy"],
    ),
    **(
        {
            "flow-contrastive": (lambda: FlowContrastive(Flow(2, kind="maf", width=6)), ["energy", "flow"]),
            "flow-contrastive-likelihood": (
                lambda: FlowContrastive(Flow(2, kind="nsf", width=6), goal="likelihood"),
                ["energy", "flow"],
            ),
        }
        if find_spec("zuko")
        else {}
    ),
    "joint": (
        lambda: Joint(
            EnergyDiscrepancy(draws=4), class_entropy=0.1, virtual_adversarial=VirtualAdversarial(radius=0.1)
        ),
        ["energy"],
    ),
    "joint-vera": (lambda: Joint(VERA(_net(), energy_steps=2)), ["energy", "energy", "generator"]),
    "amortised": (lambda: Amortised(_net(), samples=9, start=0.2, annealing=4), ["generator"]),
    "amortised-weighted": (
        lambda: Amortised(_net(), entropy=ImportancePosterior(2), samples=12, negatives=_weighted()),
        ["posterior", "generator"],
    ),
}

DETERMINISTIC = {"single-deterministic"}


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _network() -> MLP:
    return MLP(2, width=6, depth=1, outputs=2)


def _energy() -> nn.Module:
    """Rows' energy to all objectives, and a classifier to those that want one."""
    return JointEnergy(_network(), classes=2)


def _labels(rows: Tensor) -> Tensor:
    """A third of them 0, a third 1, the others without."""
    return torch.arange(len(rows)) % 3 - 1


@pytest.fixture
def rows() -> Tensor:
    return torch.randn(40, 2, generator=_seeded(5))


@pytest.fixture(params=CASES, ids=str)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def objective(name: str) -> Objective:
    made: Objective = CASES[name][0]()
    return made


def _play(
    objective: Objective, energy: nn.Module, batch: Batch, *, step: int = 0, seed: int = 0, rate: float = 1e-2
) -> list[Update]:
    """One round of bounded gradient steps, each player on its own parameters alone, as the engine does it."""
    players, turns = objective.players(energy), []
    for update in objective.updates(energy, batch, step, _seeded(seed)):
        gradients = torch.autograd.grad(update.loss, list(players[update.player]), allow_unused=True)
        with torch.no_grad():
            for parameter, gradient in zip(players[update.player], gradients, strict=True):
                if gradient is not None:
                    parameter.sub_(rate * gradient / (1 + gradient.norm()))
        turns.append(update)
    return turns


def test_no_objective_is_left_out() -> None:
    exported = {name for name in objectives.__all__ if hasattr(getattr(objectives, name), "updates")}
    assert exported == {type(make()).__name__ for make, _ in CASES.values()}


def test_players_own_registered_parameters_of_their_own(name: str, objective: Objective) -> None:
    energy = _energy()
    players = objective.players(energy)
    assert list(players) == list(dict.fromkeys(CASES[name][1]))
    owned = [parameter for group in players.values() for parameter in group]
    assert len({id(p) for p in owned}) == len(owned)
    modules = [energy, objective] if isinstance(objective, nn.Module) else [energy]
    registered = {id(p) for module in modules for p in module.parameters()}
    assert {id(p) for p in owned} <= registered
    # nothing that could be trained is left behind, but for an energy that is no player
    idle = {id(p) for p in energy.parameters()} if "energy" not in players else set()
    assert {id(p) for p in owned} == registered - idle
    assert all(list(players[player]) == list(group) for player, group in objective.players(energy).items())


def test_frozen_parameters_are_no_player_s(objective: Objective) -> None:
    energy = _energy()
    modules = [energy, objective] if isinstance(objective, nn.Module) else [energy]
    frozen = [parameter for module in modules for parameter in list(module.parameters())[:1]]
    for parameter in frozen:
        parameter.requires_grad_(False)
    owned = {id(p) for group in objective.players(energy).values() for p in group}
    assert owned.isdisjoint(id(p) for p in frozen)


def test_the_players_take_their_turns_in_order(name: str, objective: Objective, rows: Tensor) -> None:
    energy = _energy()
    for step in range(3):
        turns = _play(objective, energy, Batch(rows[:8], _labels(rows[:8])), step=step, seed=step)
        assert [turn.player for turn in turns] == CASES[name][1]
        for turn in turns:
            assert isinstance(turn, Update)
            assert turn.loss.shape == () and turn.loss.requires_grad and torch.isfinite(turn.loss)
            for metric, value in turn.metrics.items():
                assert value.shape == () and not value.requires_grad and torch.isfinite(value), metric


def test_every_player_moves_when_its_turn_has_come(objective: Objective, rows: Tensor) -> None:
    energy = _energy()
    players = objective.players(energy)
    before = {player: [p.detach().clone() for p in group] for player, group in players.items()}
    for update in objective.updates(energy, Batch(rows[:8], _labels(rows[:8])), 0, _seeded()):
        gradients = torch.autograd.grad(update.loss, list(players[update.player]), allow_unused=True)
        assert any(g is not None and bool(g.any()) for g in gradients), update.player
    # an objective itself steps nobody, and leaves no gradients
    for player, group in players.items():
        assert all(torch.equal(p, old) and p.grad is None for p, old in zip(group, before[player], strict=True))


def test_all_randomness_is_the_given_source_s(name: str, rows: Tensor) -> None:
    make = CASES[name][0]
    torch.manual_seed(3)
    first, energy = make(), _energy()
    before, losses = torch.get_rng_state(), []
    for seed in (1, 1, 2):
        turns = _play(copy.deepcopy(first), copy.deepcopy(energy), Batch(rows[:8], _labels(rows[:8])), seed=seed)
        losses.append(torch.stack([turn.loss.detach() for turn in turns]))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(losses[0], losses[1])
    assert torch.equal(losses[0], losses[2]) == (name in DETERMINISTIC)


def test_the_caller_s_batch_is_left_alone(objective: Objective, rows: Tensor) -> None:
    kept = rows.clone()
    _play(objective, _energy(), Batch(rows, _labels(rows)))
    assert torch.equal(rows, kept)
    assert not rows.requires_grad and rows.grad is None


def test_an_energy_out_of_shape_is_refused(objective: Objective, rows: Tensor) -> None:
    class Column(JointEnergy):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)[:, None]

    with pytest.raises(ContractError, match="squeeze the last axis"):
        _play(objective, Column(_network(), classes=2), Batch(rows[:8], _labels(rows[:8])))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_at_data_is_not_hidden(name: str, objective: Objective, rows: Tensor, bad: float) -> None:
    class Spoilt(JointEnergy):
        def logits(self, x: Tensor) -> Tensor:
            spoilt = torch.where(x[:, :1] > rows[:8, 0].median(), bad, 1.0)
            return -spoilt * super().logits(x).abs()

    energy, turns = Spoilt(_network(), classes=2), []
    if "energy" not in objective.players(energy):
        pytest.skip("it never sees data")
    for update in objective.updates(energy, Batch(rows[:8], _labels(rows[:8])), 0, _seeded()):
        turns.append(update)
        if update.player == "energy":  # no step, and nothing after it: the guard ends the round here
            break
    assert not torch.isfinite(turns[-1].loss)


# -- with the engine ---------------------------------------------------------------------------------------------------


class StopAt(Callback):
    def __init__(self, step: int | None) -> None:
        self.step = step

    def on_step(self, engine: Engine) -> None:
        if engine.step == self.step:
            engine.request_stop("split")


def _engine(
    name: str, start: int, *, stop: int | None = None, folder: Path | None = None, accumulate: int = 1
) -> Engine:
    """As another process would make it; its first weights must not matter after a resume."""
    torch.manual_seed(start)
    return Engine(
        _energy(),
        CASES[name][0](),
        seed=7,
        clip=1.0,
        ema=0.9,
        callbacks=[StopAt(stop)],
        checkpoints=folder,
        accumulate=accumulate,
    )


def _differences(mine: Any, theirs: Any, where: str = "state") -> list[str]:
    """Where two nested states are not bitwise the same."""
    if type(mine) is not type(theirs):
        return [where]
    if isinstance(mine, Tensor):
        return [] if mine.dtype == theirs.dtype and torch.equal(mine, theirs) else [where]
    if isinstance(mine, dict):
        if mine.keys() != theirs.keys():
            return [where]
        return [found for key in mine for found in _differences(mine[key], theirs[key], f"{where}.{key}")]
    if isinstance(mine, list | tuple):
        if len(mine) != len(theirs):
            return [where]
        pairs = enumerate(zip(mine, theirs, strict=True))
        return [found for number, (a, b) in pairs for found in _differences(a, b, f"{where}[{number}]")]
    return [] if mine == theirs else [where]


def _everything(engine: Engine, data: Any) -> dict[str, Any]:
    modules = [engine.energy, engine.objective]
    return {
        "run": engine.state_dict(data),
        # not through the engine's own state_dict
        "modules": [copy.deepcopy(m.state_dict()) for m in modules if isinstance(m, nn.Module)],
        "averaged": list(engine.averaged_energy().parameters()),
        "source": engine.state_dict(data)["generator"],
        "next": next(data).x,
    }


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_resumed_run_is_bitwise_the_uninterrupted_one(
    name: str, accumulate: int, rows: Tensor, tmp_path: Path
) -> None:
    data = cf.batches(rows, size=8, y=_labels(rows), seed=1)
    straight = _engine(name, 1, accumulate=accumulate)
    start = _everything(straight, cf.batches(rows, size=8, y=_labels(rows), seed=1))
    straight.fit(data, steps=6)
    expected = _everything(straight, data)
    assert _differences(start["modules"], expected["modules"])  # it trains

    first = _engine(name, 1, stop=3, folder=tmp_path, accumulate=accumulate)
    assert first.fit(cf.batches(rows, size=8, y=_labels(rows), seed=1), steps=6).steps == 3
    torch.manual_seed(12345)
    data = cf.batches(rows, size=8, y=_labels(rows), seed=1)
    second = _engine(name, 2, accumulate=accumulate)
    second.resume(latest_checkpoint(tmp_path))
    assert second.fit(data, steps=6).steps == 6
    assert _differences(_everything(second, data), expected) == []


@pytest.mark.parametrize("options", [{"precision": "bf16"}, {"accumulate": 2}], ids=["bf16", "accumulate"])
def test_the_engine_s_modes_train_it(name: str, options: dict[str, Any], rows: Tensor) -> None:
    objective = CASES[name][0]()
    engine = Engine(_energy(), objective, seed=7, **options)
    before = copy.deepcopy([m.state_dict() for m in (engine.energy, objective) if isinstance(m, nn.Module)])
    engine.fit(cf.batches(rows, size=8, y=_labels(rows), seed=1), steps=3)
    after = [m.state_dict() for m in (engine.energy, objective) if isinstance(m, nn.Module)]
    assert _differences(before, after)
    assert all(torch.isfinite(value).all() and value.dtype != torch.bfloat16 for s in after for value in s.values())
