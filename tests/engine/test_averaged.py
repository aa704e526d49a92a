"""Averaged copies of whatever is trained: the energy, a generator, a part of either."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn.utils import parametrizations

import chainfree as cf
from chainfree.engine import Callback, Engine
from chainfree.typing import Batch, Energy, Update


class Game(nn.Module):
    """A generator with batch norm and weight norm; its bias is frozen."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.generator = nn.Sequential(
            parametrizations.weight_norm(nn.Linear(2, 4)), nn.BatchNorm1d(4), nn.Linear(4, 2)
        )
        self.generator[2].bias.requires_grad_(False)

    def players(self, energy: nn.Module, /) -> Mapping[str, Sequence[Parameter]]:
        return {
            "energy": list(energy.parameters()),
            "generator": [p for p in self.generator.parameters() if p.requires_grad],
        }

    def updates(self, energy: Energy, batch: Batch, step: int, generator: torch.Generator) -> Iterator[Update]:
        fake = self.generator(torch.randn(batch.x.shape, generator=generator))
        yield Update("energy", (energy(batch.x).tanh() - energy(fake.detach()).tanh()).mean())
        yield Update("generator", energy(fake).tanh().mean())


class Averages(Callback):
    """The averages of a module's parameters, by hand, in float64."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module, self.decay = module, decay
        self.averages = [p.detach().double() for p in module.parameters()]

    def on_step(self, engine: Engine) -> None:
        n = engine.step - 1
        decay = min(self.decay, (1 + n) / (10 + n))
        new = [p.detach().double() for p in self.module.parameters()]
        self.averages = [decay * a + (1 - decay) * p for a, p in zip(self.averages, new, strict=True)]


@pytest.fixture
def trained(rows: Tensor) -> tuple[Engine, Game, Averages]:
    torch.manual_seed(0)
    game = Game()
    averages = Averages(game.generator, 0.9)
    engine = Engine(cf.energies.MLP(dim=2, width=8), game, ema=0.9, callbacks=[averages])
    engine.fit(cf.batches(rows, size=16), steps=30)
    return engine, game, averages


def test_the_weights_of_a_generator_are_averaged_and_its_buffers_are_not(
    trained: tuple[Engine, Game, Averages],
) -> None:
    engine, game, expected = trained
    twin = engine.averaged(game.generator)
    for mine, theirs in zip(twin.parameters(), expected.averages, strict=True):
        torch.testing.assert_close(mine.double(), theirs, rtol=0, atol=1e-6)
    assert not torch.equal(twin[2].weight, game.generator[2].weight)  # the average is not the last value
    assert torch.equal(twin[2].bias, game.generator[2].bias)
    assert dict(twin.named_buffers()).keys() == dict(game.generator.named_buffers()).keys()
    for (name, mine), theirs in zip(twin.named_buffers(), game.generator.buffers(), strict=True):
        assert torch.equal(mine, theirs), name
    assert twin[1].num_batches_tracked == 30


def test_the_copy_evaluates_and_shares_nothing(trained: tuple[Engine, Game, Averages]) -> None:
    engine, game, _ = trained
    twin = engine.averaged(game.generator)
    assert type(twin) is nn.Sequential and game.generator.training
    assert not any(module.training for module in twin.modules())
    assert not any(p.requires_grad for p in twin.parameters())
    before = [value.clone() for value in game.state_dict().values()]
    with torch.no_grad():
        for value in twin.state_dict().values():
            value.zero_()
    assert all(torch.equal(a, b) for a, b in zip(game.state_dict().values(), before, strict=True))
    assert any(bool(p.any()) for p in engine.averaged(game.generator).parameters())


def test_parts_and_wholes_agree(trained: tuple[Engine, Game, Averages]) -> None:
    engine, game, _ = trained
    whole, part = engine.averaged(game), engine.averaged(game.generator[2])
    assert torch.equal(whole.generator[2].weight, part.weight)
    energy = engine.averaged()
    for other in (engine.averaged(engine.energy), engine.averaged_energy()):
        assert all(torch.equal(a, b) for a, b in zip(other.parameters(), energy.parameters(), strict=True))


def test_averaged_weights_are_those_of_the_copies(trained: tuple[Engine, Game, Averages]) -> None:
    engine, game, _ = trained
    weights = engine.averaged_weights()
    assert set(weights) == {"energy", "objective"}
    for name, module in [("energy", engine.energy), ("objective", game)]:
        expected = engine.averaged(module).state_dict()
        assert weights[name].keys() == expected.keys()
        assert all(torch.equal(value, weights[name][key]) for key, value in expected.items())
        own = {value.data_ptr() for value in module.state_dict().values()}
        assert not own & {value.data_ptr() for value in weights[name].values()}


@pytest.mark.parametrize("objective", [Game(), cf.losses.EnergyDiscrepancy()], ids=["module", "loss"])
def test_a_stranger_is_refused(objective: Game) -> None:
    engine = Engine(cf.energies.MLP(dim=2, width=8), objective)
    with pytest.raises(ValueError, match=r"Linear is no part of energy.*; give the energy or a module that") as caught:
        engine.averaged(nn.Linear(2, 4))
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="MLP is no part"):
        engine.averaged(cf.energies.MLP(dim=2, width=8))  # an equal one is another one
