"""``constrain()``: when it is called, on whom, and that it costs nothing where nobody has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import Parameter

import chainfree as cf
from chainfree.engine import Constant, Engine, OptimizerSettings, latest_checkpoint
from chainfree.typing import Batch, Energy, Update


class Scale(nn.Module):
    """One number, at least ``least``."""

    def __init__(self, value: float, least: float, log: list[str], name: str) -> None:
        super().__init__()
        self.value = Parameter(torch.tensor(value))
        self.least, self.log, self.name = least, log, name

    def constrain(self) -> None:
        assert not torch.is_grad_enabled()
        self.log.append(self.name)
        self.value.clamp_(min=self.least)


class Bounded(nn.Module):
    """E(x) = a x with a bounded slope."""

    def __init__(self, log: list[str]) -> None:
        super().__init__()
        self.a = Scale(1.0, 0.85, log, "slope")

    def forward(self, x: Tensor) -> Tensor:
        return self.a.value * x.squeeze(-1)


class Game(nn.Module):
    """Three players who all push down; the sample's graph is made before anybody moves."""

    def __init__(self, log: list[str], order: Sequence[str] = ("energy", "posterior", "generator")) -> None:
        super().__init__()
        self.generator = nn.ModuleDict({"inner": Scale(1.0, 0.75, log, "noise")})
        self.posterior = Parameter(torch.tensor(1.0))
        self.log, self.order = log, order
        self.seen: list[tuple[float, float, float]] = []

    def players(self, energy: nn.Module, /) -> Mapping[str, Sequence[Parameter]]:
        return {
            "energy": list(energy.parameters()),
            "posterior": [self.posterior],
            "generator": list(self.generator.parameters()),
        }

    def updates(self, energy: Energy, batch: Batch, step: int, generator: torch.Generator) -> Iterator[Update]:
        noise = self.generator["inner"].value
        fake = noise**2 * torch.rand(len(batch), 1, generator=generator)  # keeps ``noise`` for its backward pass
        for player in self.order:
            loss = self.posterior if player == "posterior" else energy(fake if player == "generator" else fake.detach())
            self.log.append(player)
            yield Update(player, loss.mean())
            assert isinstance(energy, Bounded)
            self.seen.append((energy.a.value.item(), self.posterior.item(), noise.item()))


def _trained(steps: int, order: Sequence[str] = ("energy", "posterior", "generator")) -> tuple[Game, list[str]]:
    log: list[str] = []
    game = Game(log, order)
    engine = Engine(Bounded(log), game, optimizer=OptimizerSettings(lr=0.1), schedule=Constant(), ema=None)
    engine.fit(cf.batches(torch.ones(8, 1), size=4), steps=steps)
    return game, log


def test_each_step_is_followed_by_the_constraints_of_its_player() -> None:
    """Adam's first steps are 0.1 each: 1, 0.9, 0.8, which the energy may not reach; the next turn sees the legal value."""
    game, log = _trained(2)
    assert log == ["energy", "slope", "posterior", "generator", "noise"] * 2
    expected = [(0.9, 1, 1), (0.9, 0.9, 1), (0.9, 0.9, 0.9), (0.85, 0.9, 0.9), (0.85, 0.8, 0.9), (0.85, 0.8, 0.8)]
    for seen, wanted in zip(game.seen, expected, strict=True):
        assert seen == pytest.approx(wanted, abs=0.005)


def test_the_constraint_holds_for_as_long_as_one_trains() -> None:
    game, _ = _trained(20)
    assert game.seen[-1][0] == pytest.approx(0.85) and game.seen[-1][2] == pytest.approx(0.75)
    assert game.posterior < -0.5  # nobody constrains the posterior


def test_several_turns_are_constrained_each() -> None:
    _, log = _trained(1, ("energy", "energy", "generator"))
    assert log == ["energy", "slope", "energy", "slope", "generator", "noise"]


def test_a_module_around_several_players_is_constrained_after_each() -> None:
    class Whole(Game):
        def constrain(self) -> None:
            self.log.append("whole")

    log: list[str] = []
    Engine(Bounded(log), Whole(log, ("energy", "posterior", "generator"))).fit(
        cf.batches(torch.ones(8, 1), size=4), steps=1
    )
    assert log == ["energy", "slope", "posterior", "whole", "generator", "whole", "noise"]


def test_an_energy_that_the_objective_registers_is_constrained_once() -> None:
    class Owner(Game):
        def __init__(self, log: list[str], energy: nn.Module) -> None:
            super().__init__(log, ("energy",))
            self.energy = energy

    log: list[str] = []
    energy = Bounded(log)
    Engine(energy, Owner(log, energy)).fit(cf.batches(torch.ones(8, 1), size=4), steps=1)
    assert log == ["energy", "slope"]


def test_modules_are_searched_once_a_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    walks, modules = [], nn.Module.modules

    def counted(self: nn.Module, remove_duplicate: bool = True) -> Iterator[nn.Module]:
        walks.append(self)
        return modules(self)

    counts = []
    for steps in (5, 50):
        log: list[str] = []
        engine = Engine(Bounded(log), Game(log), guard=None)
        with monkeypatch.context() as patch:
            patch.setattr(nn.Module, "modules", counted)
            walks.clear()
            engine.fit(cf.batches(torch.ones(8, 1), size=4), steps=steps)
        counts.append(len(walks))
    assert counts[0] == counts[1]


def test_a_resume_of_constrained_players_is_bitwise(tmp_path: Path) -> None:
    def engine(folder: Path | None = None) -> Engine:
        log: list[str] = []
        return Engine(
            Bounded(log),
            Game(log),
            optimizer=OptimizerSettings(lr=0.1),
            schedule=Constant(),
            checkpoints=folder,
            ema=0.5,
        )

    def data() -> cf.typing.Batches:
        return cf.batches(torch.ones(8, 1), size=4)

    def values(engine: Engine) -> list[Tensor]:
        objective = engine.objective
        assert isinstance(objective, Game)
        modules = [engine.energy, objective, engine.averaged(), engine.averaged(objective)]
        return [value for module in modules for value in module.state_dict().values()]

    straight = engine()
    straight.fit(data(), steps=15)
    for cut in (1, 4):
        folder = tmp_path / str(cut)
        engine(folder).fit(data(), steps=cut)
        resumed = engine()
        resumed.resume(latest_checkpoint(folder))
        resumed.fit(data(), steps=15)
        assert all(torch.equal(a, b) for a, b in zip(values(resumed), values(straight), strict=True))
