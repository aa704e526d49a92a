"""Objectives with several players: whose turn it is, what a turn may touch, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import Parameter

import chainfree as cf
from chainfree.engine import Callback, Constant, Cosine, Engine, OptimizerSettings, latest_checkpoint
from chainfree.typing import Batch, Energy, Update


class Slope(nn.Module):
    """E(x) = a x, one parameter."""

    def __init__(self, a: float = 1.0) -> None:
        super().__init__()
        self.a = Parameter(torch.tensor(a))

    def forward(self, x: Tensor) -> Tensor:
        return self.a * x.squeeze(-1)


class Three(nn.Module):
    """Energy a, posterior b, generator c; every loss depends on all three, and a buffer counts the rounds."""

    def __init__(self, order: Sequence[str] = ("energy", "posterior", "generator")) -> None:
        super().__init__()
        self.b, self.c = Parameter(torch.tensor(2.0)), Parameter(torch.tensor(3.0))
        self.register_buffer("rounds", torch.tensor(0))
        self.order = order
        self.seen: list[tuple[str, tuple[float, float, float]]] = []

    def players(self, energy: nn.Module, /) -> Mapping[str, Sequence[Parameter]]:
        return {"energy": list(energy.parameters()), "posterior": [self.b], "generator": [self.c]}

    def _note(self, energy: Energy, when: str) -> None:
        assert isinstance(energy, Slope)
        self.seen.append((when, (energy.a.item(), self.b.item(), self.c.item())))

    def updates(self, energy: Energy, batch: Batch, step: int, generator: torch.Generator) -> Iterator[Update]:
        for player in self.order:
            self._note(energy, f"before {player}")
            loss = energy(torch.ones(4, 1)).mean() * self.b * self.c
            yield Update(player, loss, {f"loss_{player}": loss.detach()})
            self._note(energy, f"after {player}")
        self.rounds += 1


LINE = torch.ones(8, 1)


def _data() -> cf.typing.Batches:
    return cf.batches(LINE, size=4)


def _adam_first_step(value: float, gradient: float, lr: float) -> float:
    """The first step of Adam is lr * g / (|g| + eps)."""
    return value - lr * gradient / (abs(gradient) + 1e-8)


# -- turns -------------------------------------------------------------------------------------------------------------


def test_a_turn_moves_one_player_and_the_next_sees_it() -> None:
    """By hand: loss = a b c, so each one's gradient is the product of the other two as they are at its turn."""
    energy, three = Slope(1.0), Three()
    lrs = {"energy": 0.1, "posterior": 0.01, "generator": 0.001}
    optimizer = {name: OptimizerSettings(lr=lr) for name, lr in lrs.items()}
    Engine(energy, three, optimizer=optimizer, schedule=Constant()).fit(_data(), steps=1)

    a = _adam_first_step(1.0, 6.0, 0.1)
    b = _adam_first_step(2.0, a * 3.0, 0.01)
    c = _adam_first_step(3.0, a * b, 0.001)
    expected = [
        ("before energy", (1.0, 2.0, 3.0)),
        ("after energy", (a, 2.0, 3.0)),
        ("before posterior", (a, 2.0, 3.0)),
        ("after posterior", (a, b, 3.0)),
        ("before generator", (a, b, 3.0)),
        ("after generator", (a, b, c)),
    ]
    assert [when for when, _ in three.seen] == [when for when, _ in expected]
    for (_, seen), (_, wanted) in zip(three.seen, expected, strict=True):
        assert seen == pytest.approx(wanted, abs=1e-6)
    assert three.rounds == 1  # what follows the last yield runs


def test_a_turn_touches_only_its_own_gradients() -> None:
    """In the last turn, only the generator's gradient is new: the others still hold what their own turns left."""
    energy, three = Slope(1.0), Three()
    Engine(energy, three, optimizer=OptimizerSettings(lr=0.1), schedule=Constant()).fit(_data(), steps=1)
    states = dict(three.seen)
    (_, b, c), (a1, _, _) = states["before energy"], states["after energy"]
    b1 = states["after posterior"][1]
    assert energy.a.grad is not None and three.b.grad is not None and three.c.grad is not None
    assert energy.a.grad.item() == pytest.approx(b * c)
    assert three.b.grad.item() == pytest.approx(a1 * c)
    assert three.c.grad.item() == pytest.approx(a1 * b1)


@pytest.mark.parametrize("order", [("generator", "energy"), ("energy", "energy", "posterior"), ("posterior",)])
def test_the_objective_decides_the_order(order: tuple[str, ...]) -> None:
    energy, three = Slope(1.0), Three(order)
    Engine(energy, three, optimizer=OptimizerSettings(lr=0.1)).fit(_data(), steps=1)
    assert [when for when, _ in three.seen] == [f"{w} {p}" for p in order for w in ("before", "after")]
    start, end = three.seen[0][1], three.seen[-1][1]
    moved = [name for name, s, e in zip(("energy", "posterior", "generator"), start, end, strict=True) if s != e]
    assert set(moved) == set(order)  # who had no turn did not move


def test_every_player_is_clipped_by_itself() -> None:
    """Their gradients are about 6, 3 and 2; at eps = 1 the first step of Adam shows the clipped one, lr g / (g + 1)."""
    energy, three = Slope(1.0), Three()
    optimizer = OptimizerSettings(lr=1e-3, eps=1.0)
    Engine(energy, three, clip=0.5, optimizer=optimizer).fit(_data(), steps=1)
    steps = [1.0 - energy.a.item(), 2.0 - three.b.item(), 3.0 - three.c.item()]
    assert steps == pytest.approx([1e-3 * 0.5 / 1.5] * 3, abs=1e-6)


def test_the_average_covers_every_player_once_a_round() -> None:
    """n turns by hand: the decay depends on rounds, not on turns."""
    energy, three = Slope(1.0), Three()
    engine = Engine(energy, three, ema=0.5, optimizer=OptimizerSettings(lr=0.1))
    engine.fit(_data(), steps=6)
    values = [seen[0] for when, seen in three.seen if when == "after generator"]
    average = 1.0
    for n, value in enumerate(values):
        decay = min(0.5, (1 + n) / (10 + n))
        average = decay * average + (1 - decay) * value
    twin = engine.averaged_energy()
    assert isinstance(twin, Slope)
    assert twin.a.item() == pytest.approx(average, abs=1e-6)


def test_learning_rates_are_logged_by_player() -> None:
    class Listener(Callback):
        records: list[dict[str, float]] = []  # noqa: RUF012

        def on_log(self, engine: Engine, record: Mapping[str, float]) -> None:
            self.records.append(dict(record))

    optimizer = {
        name: OptimizerSettings(lr=lr) for name, lr in [("energy", 1e-3), ("posterior", 2e-3), ("generator", 4e-3)]
    }
    listener = Listener()
    Engine(Slope(), Three(), optimizer=optimizer, callbacks=[listener], log_every=1).fit(_data(), steps=2)
    first, second = listener.records
    assert {k: v for k, v in first.items() if k.startswith("lr")} == {
        "lr_energy": 1e-3,
        "lr_posterior": 2e-3,
        "lr_generator": 4e-3,
    }
    assert second["lr_generator"] == pytest.approx(2e-3)  # half way down the cosine
    assert {"loss_energy", "loss_posterior", "loss_generator"} <= set(first)


class Uneven(Three):
    """The energy twice a round, the posterior in every third."""

    def updates(self, energy: Energy, batch: Batch, step: int, generator: torch.Generator) -> Iterator[Update]:
        self.order = ["energy", "energy", "generator"] + ["posterior"] * (step % 3 == 2)
        yield from super().updates(energy, batch, step, generator)


def test_schedules_and_averages_count_rounds_whoever_steps() -> None:
    """Adam with equal gradients steps by the rate: gradients of one sign, so a's path is the sum of the rates."""

    class Flat(Uneven):
        def updates(self, energy: Energy, batch: Batch, step: int, generator: torch.Generator) -> Iterator[Update]:
            assert isinstance(energy, Slope)
            for update in super().updates(energy, batch, step, generator):
                own = {"energy": energy.a, "posterior": self.b, "generator": self.c}[update.player]
                yield Update(update.player, own * 1.0)

    energy, flat, rounds = Slope(1.0), Flat(), 9
    engine = Engine(energy, flat, optimizer=OptimizerSettings(lr=0.01), ema=0.5)
    engine.fit(_data(), steps=rounds)
    rates = [0.01 * Cosine().factor(step, rounds) for step in range(rounds)]
    assert energy.a.item() == pytest.approx(1.0 - 2 * sum(rates), abs=1e-6)
    assert flat.b.item() == pytest.approx(2.0 - sum(rates[2::3]), abs=1e-6)
    assert flat.c.item() == pytest.approx(3.0 - sum(rates), abs=1e-6)
    average, value = 2.0, 2.0
    for step, rate in enumerate(rates):
        value -= rate * (step % 3 == 2)
        decay = min(0.5, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * value
    assert engine.averaged(flat).b.item() == pytest.approx(average, abs=1e-6)


def test_a_graph_that_a_step_has_overtaken_is_refused() -> None:
    """Its gradient would be taken at weights that it was not made with."""

    class Stale(Three):
        def updates(self, energy: Energy, batch: Batch, step: int, generator: torch.Generator) -> Iterator[Update]:
            early = energy(batch.x * self.b).mean()  # its gradient is the energy's slope
            yield Update("energy", energy(batch.x).mean())
            yield Update("posterior", early)

    engine = Engine(Slope(), Stale())
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        engine.fit(_data(), steps=1)


def test_the_objective_trains_in_training_mode() -> None:
    class Modes(Three):
        def updates(self, energy: Energy, batch: Batch, step: int, generator: torch.Generator) -> Iterator[Update]:
            assert isinstance(energy, Slope) and energy.training and self.training and self.inner.training
            yield from super().updates(energy, batch, step, generator)

    energy, modes = Slope().eval(), Modes()
    modes.inner = nn.Dropout()
    modes.eval()
    engine = Engine(energy, modes)
    engine.fit(_data(), steps=2)
    assert not engine.averaged(modes).inner.training
    modes.eval()
    engine.fit(_data(), steps=3)  # every fit begins so
    assert len(modes.seen) == 18


# -- refusals ----------------------------------------------------------------------------------------------------------


def _with_players(make: Callable[[Slope, Three], Mapping[str, Any]]) -> Three:
    class Other(Three):
        def players(self, energy: nn.Module, /) -> Mapping[str, Sequence[Parameter]]:
            assert isinstance(energy, Slope)
            return make(energy, self)

    return Other()


def test_an_unknown_player_is_refused_when_its_turn_comes() -> None:
    engine = Engine(Slope(), Three(("energy", "critic")))
    with pytest.raises(ValueError, match=r"player 'critic', but has only \['energy', 'generator', 'posterior'\]"):
        engine.fit(_data(), steps=1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda e, t: {"energy": [e.a], "generator": [t.c, e.a]}, "share a parameter"),
        (lambda e, t: {"energy": [e.a], "generator": []}, "player 'generator' has no trainable parameter"),
        (lambda e, t: {}, "no player"),
    ],
)
def test_players_that_cannot_be_trained_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Engine(Slope(), _with_players(make))


def test_parameters_may_come_from_an_iterator() -> None:
    """``module.parameters()`` is used up by the first look at it."""
    energy, three = (
        Slope(),
        _with_players(lambda e, t: {"energy": e.parameters(), "posterior": iter([t.b]), "generator": iter([t.c])}),
    )
    Engine(energy, three).fit(_data(), steps=1)
    assert three.seen[0][1] != three.seen[-1][1]


def test_optimizers_must_name_all_players() -> None:
    some = {"energy": OptimizerSettings(), "generator": OptimizerSettings()}
    with pytest.raises(ValueError, match=r"\['energy', 'generator'\].*\['energy', 'generator', 'posterior'\]"):
        Engine(Slope(), Three(), optimizer=some)


def test_parameters_that_no_checkpoint_would_hold_are_refused() -> None:
    """An objective that is a plain class has no state_dict: its generator would be lost on resume."""

    class Plain:
        def __init__(self) -> None:
            self.generator = nn.Linear(1, 1)

        def players(self, energy: nn.Module, /) -> Mapping[str, Sequence[Parameter]]:
            return {"energy": list(energy.parameters()), "generator": list(self.generator.parameters())}

        def updates(self, energy: Energy, batch: Batch, step: int, generator: torch.Generator) -> Iterator[Update]:
            yield Update("energy", energy(batch.x).mean())

    with pytest.raises(ValueError, match=r"'generator'.*nn\.Module"):
        Engine(Slope(), Plain())


def test_accumulated_batches_must_agree_on_the_turns() -> None:
    """Else one player's gradient would be stepped by another's optimizer."""

    class Fickle(Three):
        def updates(self, energy: Energy, batch: Batch, step: int, generator: torch.Generator) -> Iterator[Update]:
            player = "energy" if batch.x[0, 0] < 4 else "posterior"
            yield Update(player, energy(batch.x).mean() * self.b)

    rows = torch.arange(8.0).reshape(8, 1)
    engine = Engine(Slope(), Fickle(), accumulate=2)
    with pytest.raises(ValueError, match=r"'energy'.*'posterior'.*accumulate"):
        engine.fit(cf.batches(rows, size=4, shuffle=False), steps=1)


def test_accumulated_batches_must_agree_on_the_number_of_turns() -> None:
    class Short(Three):
        def updates(self, energy: Energy, batch: Batch, step: int, generator: torch.Generator) -> Iterator[Update]:
            self.order = ["energy"] * (2 if batch.x[0, 0] < 4 else 1)
            yield from super().updates(energy, batch, step, generator)

    rows = torch.arange(8.0).reshape(8, 1)
    with pytest.raises(ValueError, match=r"'energy'.*None.*accumulate"):
        Engine(Slope(), Short(), accumulate=2).fit(cf.batches(rows, size=4, shuffle=False), steps=1)


# -- state -------------------------------------------------------------------------------------------------------------


def test_an_objective_that_is_a_module_is_checkpointed_with_its_buffers(tmp_path: Path) -> None:
    three = Three()
    Engine(Slope(), three, checkpoints=tmp_path, optimizer=OptimizerSettings(lr=0.1)).fit(_data(), steps=5)
    assert three.rounds == 5
    again = Three()
    Engine(Slope(), again).resume(latest_checkpoint(tmp_path))
    assert again.rounds == 5
    assert torch.equal(again.b, three.b) and torch.equal(again.c, three.c)


def test_the_objective_moves_to_the_device_with_the_energy() -> None:
    """'meta' stands in for an accelerator."""
    energy, three = Slope(), Three()
    assert Engine.__doc__ is not None
    with pytest.raises((RuntimeError, NotImplementedError)):  # no generator on meta, but the modules have been moved
        Engine(energy, three, device="meta")
    assert energy.a.device.type == three.b.device.type == three.rounds.device.type == "meta"
