"""A resumed run is bit for bit the run that was never interrupted."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import Parameter

import chainfree as cf
from chainfree.engine import Callback, Constant, Engine, OptimizerSettings, latest_checkpoint
from chainfree.typing import Batch, Batches, Energy, LossOutput, Objective, Update

STEPS = 60
UNEVEN = 33  # three players, not all in every round


class StopAt(Callback):
    def __init__(self, step: int | None) -> None:
        self.step = step

    def on_step(self, engine: Engine) -> None:
        if engine.step == self.step:
            engine.request_stop("split")


class Trio(nn.Module):
    """Like VERA: an energy, a generator and the log-scale of its posterior, all with noise, and a chain as a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Linear(2, 2)
        self.log_scale = Parameter(torch.randn(()))
        self.register_buffer("chain", torch.zeros(16, 2))

    def players(self, energy: nn.Module, /) -> Mapping[str, Sequence[Parameter]]:
        return {
            "energy": list(energy.parameters()),
            "posterior": [self.log_scale],
            "generator": list(self.generator.parameters()),
        }

    def updates(self, energy: Energy, batch: Batch, step: int, generator: torch.Generator) -> Iterator[Update]:
        z = torch.randn(batch.x.shape, generator=generator)
        fake = self.generator(z) + 0.1 * torch.randn(z.shape, generator=generator)
        self.chain += 0.1 * fake.detach() + 0.01 * torch.randn(z.shape, generator=generator)
        energies = energy(torch.cat([batch.x, fake.detach(), self.chain])).float()
        real, other, chained = energies.chunk(3)
        yield Update(
            "energy", (real - 0.5 * other - 0.5 * chained + 0.1 * energies.square().view(3, -1).mean(0)).mean()
        )
        noise = torch.randn(z.shape, generator=generator)
        yield Update("posterior", (z + self.log_scale.exp() * noise - fake.detach()).square().mean())
        yield Update("generator", energy(fake).float().mean() - 0.1 * self.log_scale)


class Uneven(nn.Module):
    """The energy twice a round, the posterior in every fourth, with running statistics and a bounded noise scale."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        self.noise, self.scale = Parameter(torch.randn(())), Parameter(torch.randn(()))

    def constrain(self) -> None:
        self.noise.clamp_(0.1, 0.3)

    def players(self, energy: nn.Module, /) -> Mapping[str, Sequence[Parameter]]:
        return {
            "energy": list(energy.parameters()),
            "posterior": [self.scale],
            "generator": [self.noise, *self.generator.parameters()],
        }

    def updates(self, energy: Energy, batch: Batch, step: int, generator: torch.Generator) -> Iterator[Update]:
        for _ in range(2):
            fake = self._fake(batch, generator)
            energies = energy(torch.cat([batch.x, fake.detach()])).float()
            real, other = energies.chunk(2)
            yield Update(
                "energy", (real - other).mean() + 0.1 * energies.square().mean(), {"energy": real.detach().mean()}
            )
        if step % 4 == 3:
            yield Update("posterior", (self.scale - torch.rand((), generator=generator)).square() * self.noise.detach())
        yield Update("generator", energy(self._fake(batch, generator)).float().mean() * self.scale.detach().exp())

    def _fake(self, batch: Batch, generator: torch.Generator) -> Tensor:
        z, e = (torch.randn(batch.x.shape, generator=generator) for _ in range(2))
        fake: Tensor = self.generator(z).float() + self.noise * e
        return fake


def _data(kind: str, x: Tensor, seed: int = 0) -> Batches:
    if kind == "array":
        return cf.batches(x, size=16, y=torch.arange(len(x)), seed=seed)
    return cf.SampledBatches(cf.datasets.toy_density("moons"), size=16, seed=seed)


def _objective(players: int) -> Any:
    return {1: cf.losses.EnergyDiscrepancy, 3: Trio, UNEVEN: Uneven}[players]()


def _engine(start: int, players: int, *, stop: int | None = None, folder: Path | None = None, **options: Any) -> Engine:
    """As a new process would make it, from other initial weights if asked: they must not matter after a resume."""
    torch.manual_seed(start)
    energy = cf.energies.MLP(dim=2, width=8, depth=2)
    objective: Objective = _objective(players)
    return Engine(energy, objective, seed=7, callbacks=[StopAt(stop)], checkpoints=folder, log_every=10, **options)


def assert_same(mine: Any, theirs: Any, where: str = "state") -> None:
    """Bitwise, through nested dicts and lists."""
    assert type(mine) is type(theirs), where
    if isinstance(mine, Tensor):
        assert mine.dtype == theirs.dtype and torch.equal(mine, theirs), where
    elif isinstance(mine, dict):
        assert mine.keys() == theirs.keys(), where
        for key in mine:
            assert_same(mine[key], theirs[key], f"{where}.{key}")
    elif isinstance(mine, list | tuple):
        assert len(mine) == len(theirs), where
        for number, (a, b) in enumerate(zip(mine, theirs, strict=True)):
            assert_same(a, b, f"{where}[{number}]")
    else:
        assert mine == theirs, where


def _everything(engine: Engine, data: Batches) -> dict[str, Any]:
    state = engine.state_dict(data)
    assert {"modules", "players", "generator", "data", "step"} <= state.keys()
    objective = engine.objective
    return {
        **state,
        # not through the engine's own state_dict
        "weights": [p.detach() for p in engine.energy.parameters()],
        "averaged": list(engine.averaged_energy().parameters()),
        "objective": [t.detach() for t in objective.state_dict().values()] if isinstance(objective, nn.Module) else [],
        "next": next(data).x,
    }


ALL_ON: dict[str, Any] = {"clip": 0.5, "ema": 0.95, "accumulate": 2, "precision": "bf16"}


@pytest.mark.parametrize("options", [{}, ALL_ON, {"guard": None, "ema": None}], ids=["plain", "all on", "bare"])
@pytest.mark.parametrize("players", [1, 3, UNEVEN])
@pytest.mark.parametrize("kind", ["array", "sampled"])
def test_resume_is_bitwise(kind: str, players: int, options: dict[str, Any], rows: Tensor, tmp_path: Path) -> None:
    data = _data(kind, rows)
    straight = _engine(1, players, **options)
    straight.fit(data, steps=STEPS)
    expected = _everything(straight, data)

    first = _engine(1, players, stop=25, folder=tmp_path, **options)
    assert first.fit(_data(kind, rows), steps=STEPS).steps == 25
    torch.manual_seed(12345)
    data = _data(kind, rows)
    second = _engine(2, players, **options)
    second.resume(latest_checkpoint(tmp_path))
    assert second.fit(data, steps=STEPS).steps == STEPS
    assert_same(_everything(second, data), expected)


@settings(max_examples=8, deadline=None)
@given(
    st.lists(st.integers(1, STEPS - 1), min_size=1, max_size=3, unique=True).map(sorted),
    st.sampled_from([1, 3, UNEVEN]),
)
def test_resume_is_bitwise_wherever_it_was_cut(cuts: list[int], players: int) -> None:
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(8))
    data = _data("array", x)
    straight = _engine(1, players, **ALL_ON)
    straight.fit(data, steps=STEPS)
    expected = _everything(straight, data)
    with TemporaryDirectory() as name:
        folder = Path(name)
        for number, cut in enumerate([*cuts, None]):
            data = _data("array", x)
            engine = _engine(1 + number, players, stop=cut, folder=folder, **ALL_ON)
            if number:
                engine.resume(latest_checkpoint(folder))
            engine.fit(data, steps=STEPS)
        assert_same(_everything(engine, data), expected)


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 5])
def test_resume_is_bitwise_around_a_player_s_first_step(cut: int, rows: Tensor, tmp_path: Path) -> None:
    """The posterior's is in round 4; before it, its optimizer has no moments to save."""
    data = _data("array", rows)
    straight = _engine(1, UNEVEN)
    straight.fit(data, steps=12)
    expected = _everything(straight, data)
    _engine(1, UNEVEN, stop=cut, folder=tmp_path).fit(_data("array", rows), steps=12)
    data = _data("array", rows)
    second = _engine(2, UNEVEN)
    second.resume(latest_checkpoint(tmp_path))
    second.fit(data, steps=12)
    assert_same(_everything(second, data), expected)


def test_going_back_to_before_a_player_s_first_step_takes_its_moments_away(rows: Tensor) -> None:
    """As the guard does."""
    data = _data("array", rows)
    engine = _engine(1, UNEVEN, schedule=Constant())
    engine.fit(data, steps=2)
    early = engine.state_dict(data)
    engine.fit(data, steps=12)
    expected = _everything(engine, data)
    engine.load_state_dict(early, data)
    assert_same(engine.state_dict(data), early)
    engine.fit(data, steps=12)
    assert_same(_everything(engine, data), expected)


def test_a_checkpoint_in_memory_is_a_copy(rows: Tensor) -> None:
    """Training on must not change a state that was taken before, nor one that was loaded."""
    data = _data("array", rows)
    engine = _engine(1, 3)
    engine.fit(data, steps=10)
    state = engine.state_dict(data)
    kept = copy.deepcopy(state)
    engine.fit(data, steps=20)
    assert_same(state, kept)
    engine.load_state_dict(state, data)
    engine.fit(data, steps=20)
    assert_same(state, kept)


def test_the_optimizer_and_the_generator_matter(rows: Tensor, tmp_path: Path) -> None:
    """The bitwise tests can fail: weights alone do not make a resume."""
    for part in ("players", "generator", "data"):
        folder = tmp_path / part
        first = _engine(1, 1, stop=25, folder=folder)
        first.fit(_data("array", rows), steps=STEPS)
        path = latest_checkpoint(folder)
        state = torch.load(path)
        fresh = _engine(1, 1)
        state[part] = fresh.state_dict(_data("array", rows))[part]
        torch.save(state, path)
        outcomes = []
        for checkpoint in (path, None):
            engine = _engine(1, 1)
            if checkpoint is not None:
                engine.resume(checkpoint)
            engine.fit(_data("array", rows), steps=STEPS)
            outcomes.append(list(engine.energy.parameters()))
        assert not torch.equal(outcomes[0][0], outcomes[1][0]), part


def test_the_settings_of_the_resumed_run_count(rows: Tensor, tmp_path: Path) -> None:
    """All of them: with no gradient, AdamW shrinks the weights by 1 - lr * weight_decay a step."""

    class Nothing:
        def __call__(self, energy: Energy, x: Tensor, /, *, generator: torch.Generator | None = None) -> LossOutput:
            return LossOutput(0 * energy(x).sum())

    def engine(optimizer: OptimizerSettings) -> Engine:
        torch.manual_seed(0)
        energy = cf.energies.MLP(dim=2, width=4)
        return Engine(energy, Nothing(), optimizer=optimizer, schedule=Constant(), checkpoints=tmp_path)

    first = engine(OptimizerSettings(lr=0.1))
    before = next(first.energy.parameters()).detach().clone()
    first.fit(cf.batches(rows, size=16), steps=10)
    assert torch.equal(next(first.energy.parameters()), before)
    second = engine(OptimizerSettings(lr=0.2, weight_decay=0.5))
    second.resume(latest_checkpoint(tmp_path))
    second.fit(cf.batches(rows, size=16), steps=13)
    torch.testing.assert_close(next(second.energy.parameters()).detach(), before * 0.9**3)


# -- other runs --------------------------------------------------------------------------------------------------------


@pytest.fixture
def checkpoint(rows: Tensor, tmp_path: Path) -> Path:
    _engine(1, 1, stop=5, folder=tmp_path).fit(_data("array", rows), steps=STEPS)
    return latest_checkpoint(tmp_path)


def _refused(action: Any, *words: str) -> None:
    with pytest.raises(ValueError) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message and ";" in message  # one line: what is wrong; what to do
    for word in words:
        assert word in message, message


def test_other_data_are_refused(checkpoint: Path, rows: Tensor) -> None:
    for data, word in [
        (_data("array", rows[:90]), "rows"),
        (_data("array", rows, seed=1), "seed"),
        (_data("sampled", rows), "kind"),
        (cf.batches(rows, size=8), "size"),
    ]:
        engine = _engine(1, 1)
        engine.resume(checkpoint)
        _refused(lambda engine=engine, data=data: engine.fit(data, steps=STEPS), "other data", word)
        with pytest.raises(ValueError, match="other data"):
            engine.fit(data, steps=STEPS)  # asking twice does not help
        assert engine.fit(_data("array", rows), steps=STEPS).steps == STEPS  # the right ones do


@pytest.mark.parametrize("shape", [{"width": 9, "depth": 2}, {"width": 8, "depth": 3}, {"width": 8, "depth": 1}])
def test_another_network_is_refused(checkpoint: Path, shape: dict[str, int]) -> None:
    engine = Engine(cf.energies.MLP(dim=2, **shape), cf.losses.EnergyDiscrepancy(), callbacks=[StopAt(None)])
    _refused(lambda: engine.resume(checkpoint), "network")


def test_another_set_of_players_is_refused(checkpoint: Path, rows: Tensor, tmp_path: Path) -> None:
    _refused(lambda: _engine(1, 3).resume(checkpoint), "['energy']", "['energy', 'generator', 'posterior']")
    _engine(1, 3, stop=5, folder=tmp_path / "trio").fit(_data("array", rows), steps=STEPS)
    _refused(lambda: _engine(1, 1).resume(latest_checkpoint(tmp_path / "trio")), "players")


def test_another_objective_with_the_same_player_is_refused(checkpoint: Path) -> None:
    class Lone(nn.Module):
        """One player, as in the checkpoint, but with a buffer that the checkpoint lacks."""

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("chain", torch.zeros(3))

        def players(self, energy: nn.Module, /) -> Mapping[str, Sequence[Parameter]]:
            return {"energy": list(energy.parameters())}

        def updates(self, energy: Energy, batch: Batch, step: int, generator: torch.Generator) -> Iterator[Update]:
            yield Update("energy", energy(batch.x).mean())

    engine = Engine(cf.energies.MLP(dim=2, width=8, depth=2), Lone(), callbacks=[StopAt(None)])
    _refused(lambda: engine.resume(checkpoint), "objective")


def test_another_ema_is_refused(checkpoint: Path) -> None:
    _refused(lambda: _engine(1, 1, ema=None).resume(checkpoint), "ema")


def test_another_set_of_callbacks_is_refused(checkpoint: Path) -> None:
    engine = Engine(cf.energies.MLP(dim=2, width=8, depth=2), cf.losses.EnergyDiscrepancy())
    _refused(lambda: engine.resume(checkpoint), "callbacks")
