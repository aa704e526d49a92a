"""Divergence: what is noticed, what is restored, when it gives up, and that nothing broken is ever kept."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import Parameter

import chainfree as cf
from chainfree.engine import (
    Callback,
    Constant,
    Engine,
    Guard,
    OptimizerSettings,
    TrainingDivergedError,
    latest_checkpoint,
    load_checkpoint,
)
from chainfree.engine import recovery as recovery_module
from chainfree.engine.guard import Symptom, Watch
from chainfree.typing import Batch, Energy, LossOutput, Update


class Events(Callback):
    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.rates: list[float] = []
        self.stopped = ""

    def on_log(self, engine: Engine, record: Mapping[str, float]) -> None:
        self.rates.append(record["lr"])

    def on_event(self, engine: Engine, kind: str, message: str) -> None:
        self.events.append((kind, message))

    def on_end(self, engine: Engine, stopped: str) -> None:
        self.stopped = stopped

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.events]


class Ill(nn.Module):
    """An energy that is ``value`` in certain calls; its counter is no buffer, so going back does not reset it."""

    def __init__(self, calls: range, value: float = math.nan) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = cf.energies.MLP(dim=2, width=8, depth=1)
        self.calls, self.value, self.called = calls, value, 0

    def forward(self, x: Tensor) -> Tensor:
        self.called += 1
        values: Tensor = self.inner(x)
        return values * self.value if self.called in self.calls else values


FOREVER = 10**9
LOSS = cf.losses.EnergyDiscrepancy()  # calls the energy once a step


def _assert_sound(engine: Engine, folder: Path) -> None:
    """Finite in memory, and the same on disk."""
    state = load_checkpoint(latest_checkpoint(folder))
    for name, value in engine.energy.state_dict().items():
        assert torch.isfinite(value).all(), name
        assert torch.equal(value, state["modules"]["energy"][name]), name
    assert state["step"] == engine.step
    assert all(torch.isfinite(p).all() for p in engine.averaged_energy().parameters())
    for optimizer in state["players"]["optimizers"].values():
        for moments in optimizer["state"].values():
            assert all(torch.isfinite(value).all() for value in moments.values())


# -- broken energies ---------------------------------------------------------------------------------------------------


def test_an_energy_that_stays_broken_ends_in_an_error(rows: Tensor, tmp_path: Path) -> None:
    """Calls 1 to 99 are steps 0 to 98; the last good state is the one of step 90."""
    events = Events()
    energy = Ill(range(100, FOREVER))
    engine = Engine(
        energy, LOSS, guard=Guard(every=30, tries=3, backoff=0.1), callbacks=[events], checkpoints=tmp_path, log_every=5
    )
    with pytest.raises(
        TrainingDivergedError, match=r"loss of player 'energy' was nan at step 90, also after 3 restarts"
    ):
        engine.fit(cf.batches(rows, size=16), steps=200)
    assert engine.step == 90 and events.stopped == "diverged"
    assert events.kinds() == ["guard"] * 3 + ["diverged"]
    assert energy.called == 103
    messages = [message for _, message in events.events]
    assert "nan at step 99; back to step 90 with the learning rate at 0.1 " in messages[0]
    assert [re.findall(r"rate at (\S+) of", message) for message in messages[:3]] == [["0.1"], ["0.01"], ["0.001"]]
    assert "last good state, step 90, is saved" in messages[3]
    _assert_sound(engine, tmp_path)


def test_the_state_gone_back_to_is_the_state_that_was(rows: Tensor, tmp_path: Path) -> None:
    """Against a healthy run that ends there."""
    engine = Engine(Ill(range(100, FOREVER)), LOSS, guard=Guard(every=30), schedule=Constant(), checkpoints=tmp_path)
    with pytest.raises(TrainingDivergedError):
        engine.fit(cf.batches(rows, size=16), steps=200)
    healthy = Engine(Ill(range(0)), LOSS, schedule=Constant())
    data = cf.batches(rows, size=16)
    healthy.fit(data, steps=90)
    for mine, theirs in [(engine.energy, healthy.energy), (engine.averaged_energy(), healthy.averaged_energy())]:
        assert all(torch.equal(a, b) for a, b in zip(mine.parameters(), theirs.parameters(), strict=True))
    state, expected = load_checkpoint(latest_checkpoint(tmp_path)), healthy.state_dict(data)
    assert torch.equal(state["generator"], expected["generator"]) and state["data"] == expected["data"]


def test_a_transient_is_survived_at_a_lower_rate(rows: Tensor, tmp_path: Path) -> None:
    events = Events()
    engine = Engine(
        Ill(range(50, 51)), LOSS, guard=Guard(every=20, backoff=0.5), schedule=Constant(),
        optimizer=OptimizerSettings(lr=1e-2), callbacks=[events], checkpoints=tmp_path, log_every=10,
    )  # fmt: skip
    report = engine.fit(cf.batches(rows, size=16), steps=100)
    assert (report.steps, report.stopped, events.stopped) == (100, "completed", "completed")
    assert events.kinds() == ["guard"] and "back to step 40 with the learning rate at 0.5 " in events.events[0][1]
    assert events.rates == pytest.approx([1e-2] * 4 + [5e-3] * 6)
    _assert_sound(engine, tmp_path)
    resumed = Engine(
        Ill(range(0)), LOSS, callbacks=[events], schedule=Constant(), optimizer=OptimizerSettings(lr=1e-2), log_every=10
    )
    resumed.resume(latest_checkpoint(tmp_path))
    resumed.fit(cf.batches(rows, size=16), steps=110)
    assert events.rates[-1] == pytest.approx(5e-3)  # a resume does not forget it


def test_runaway_energies_are_noticed_while_finite(rows: Tensor, tmp_path: Path) -> None:
    events = Events()
    engine = Engine(
        Ill(range(50, FOREVER), value=1e9), LOSS, guard=Guard(every=20, limit=1e5), callbacks=[events],
        checkpoints=tmp_path,
    )  # fmt: skip
    with pytest.raises(
        TrainingDivergedError, match=r"(loss|energy_data|energy_draws) of player 'energy' was -?\d\S*e\+\d+"
    ):
        engine.fit(cf.batches(rows, size=16), steps=100)
    _assert_sound(engine, tmp_path)
    quiet = Engine(Ill(range(50, FOREVER), value=1e3), LOSS, guard=Guard(every=20, limit=1e9))
    assert quiet.fit(cf.batches(rows, size=16), steps=60).steps == 60  # below the limit, nothing happens


def test_a_runaway_energy_under_a_quiet_loss_is_noticed(rows: Tensor) -> None:
    """Contrastive losses do not see a common shift; the mean energies do."""

    class Shifted:
        def __call__(self, energy: Energy, x: Tensor, /, *, generator: torch.Generator | None = None) -> LossOutput:
            values = energy(x)
            return LossOutput(
                values.var(), {"energy_data": values.detach().mean() + 2e6, "other": torch.tensor(math.nan)}
            )

    engine = Engine(Ill(range(0)), Shifted(), guard=Guard(tries=1))
    with pytest.raises(TrainingDivergedError, match="energy_data of player 'energy' was 2e\\+06 at step 0"):
        engine.fit(cf.batches(rows, size=16), steps=10)


def test_without_a_guard_it_happens(rows: Tensor) -> None:
    engine = Engine(Ill(range(50, FOREVER)), LOSS, guard=None)
    assert engine.fit(cf.batches(rows, size=16), steps=60).stopped == "completed"
    assert not all(torch.isfinite(p).all() for p in engine.energy.parameters())


# -- learning rates that are far too high ------------------------------------------------------------------------------


class Quartic(nn.Module):
    """Its loss grows with the fourth power of a far step."""

    def __init__(self) -> None:
        super().__init__()
        self.a = Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return (self.a**4).sum() + 0 * x.sum(-1)


class Plain:
    def __call__(self, energy: Energy, x: Tensor, /, *, generator: torch.Generator | None = None) -> LossOutput:
        return LossOutput(energy(x).mean())


@pytest.mark.parametrize(("backoff", "recovers"), [(1e-5, True), (0.9, False)])
def test_a_learning_rate_of_a_thousand(backoff: float, recovers: bool, rows: Tensor, tmp_path: Path) -> None:
    events = Events()
    engine = Engine(
        Quartic(), Plain(), guard=Guard(every=10, backoff=backoff), optimizer=OptimizerSettings(lr=1e3),
        callbacks=[events], checkpoints=tmp_path, ema=0.9,
    )  # fmt: skip
    data = cf.batches(rows, size=16)
    if recovers:
        assert engine.fit(data, steps=90).stopped == "completed"  # too short for the rate to climb back
        assert events.kinds() == ["guard"]
    else:
        with pytest.raises(TrainingDivergedError, match=r"after 3 restarts .* down to 0\.729 .*; lower lr"):
            engine.fit(data, steps=100)
        assert engine.step == 0
        assert torch.equal(engine.energy.a, torch.ones(3))
    _assert_sound(engine, tmp_path)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_network_at_a_learning_rate_of_a_thousand_is_never_left_broken(
    seed: int, rows: Tensor, tmp_path: Path
) -> None:
    torch.manual_seed(seed)
    engine = Engine(
        cf.energies.MLP(dim=2, width=16, depth=3), LOSS, optimizer=OptimizerSettings(lr=1e3), guard=Guard(every=10),
        checkpoints=tmp_path, checkpoint_every=7,
    )  # fmt: skip
    try:
        assert engine.fit(cf.batches(rows, size=16), steps=60).steps == 60
    except TrainingDivergedError as error:
        assert "lower lr" in str(error)
    _assert_sound(engine, tmp_path)


def test_tries_are_counted_afresh_after_a_long_good_stretch(rows: Tensor) -> None:
    def fit(*calls: int) -> list[str]:
        energy, events = Ill(range(0)), Events()
        energy.calls = calls  # type: ignore[assignment]
        engine = Engine(energy, LOSS, guard=Guard(every=2, tries=1, backoff=0.5), callbacks=[events])
        with contextlib.suppress(TrainingDivergedError):
            engine.fit(cf.batches(rows, size=16), steps=100)
        return events.kinds()

    assert fit(10, 80) == ["guard", "recovered", "guard", "recovered"]  # 20 good steps lie between
    assert fit(10, 33) == ["guard", "recovered", "guard", "recovered"]  # right after the rate has climbed back
    assert fit(10, 24) == ["guard", "diverged"]


# -- the way back up ---------------------------------------------------------------------------------------------------


def _climber(
    *calls: int, every: int = 2, folder: Path | None = None, checkpoint_every: int = 1000, stop: int | None = None
) -> tuple[Engine, Events]:
    """Ill in the given calls; rates are logged every step, and with ``stop`` it ends there."""

    class Stop(Events):
        def on_step(self, engine: Engine) -> None:
            if engine.step == stop:
                engine.request_stop("split")

    energy, events = Ill(range(0)), Stop()
    energy.calls = calls  # type: ignore[assignment]
    engine = Engine(
        energy, LOSS, guard=Guard(every=every, backoff=0.1), schedule=Constant(), optimizer=OptimizerSettings(lr=1.0e-2),
        callbacks=[events], log_every=1, checkpoints=folder, checkpoint_every=checkpoint_every, ema=0.9,
    )  # fmt: skip
    return engine, events


def test_the_rate_climbs_back_after_good_steps(rows: Tensor) -> None:
    """The 10th call is step 9, and step 8 the last good one; 10 * every = 20 good steps later it is 28."""
    engine, events = _climber(10)
    engine.fit(cf.batches(rows, size=16), steps=60)
    # 9 rates before the fault, of which the last step was done again
    assert events.rates == pytest.approx([1e-2] * 9 + [1e-3] * 20 + [1e-2] * 32)
    assert events.rates[-32:] == [1e-2] * 32  # exactly the setting again
    assert events.kinds() == ["guard", "recovered"]
    assert events.events[1][1] == "learning rate back at 1 of its setting after step 28"


def test_every_lowering_is_taken_back_by_itself(rows: Tensor) -> None:
    """Two faults in a row: 20 good steps for each of them."""
    engine, events = _climber(10, 11)
    engine.fit(cf.batches(rows, size=16), steps=60)
    assert events.rates == pytest.approx([1e-2] * 9 + [1e-4] * 20 + [1e-3] * 20 + [1e-2] * 12)
    assert events.rates[-12:] == [1e-2] * 12
    assert events.kinds() == ["guard", "guard", "recovered", "recovered"]


def test_a_fault_on_the_way_up_starts_the_wait_anew(rows: Tensor) -> None:
    """Steps 8 to 17 are good at the lower rate; call 21 is step 18 and again a fault."""
    engine, events = _climber(10, 21)
    engine.fit(cf.batches(rows, size=16), steps=70)
    assert events.rates == pytest.approx([1e-2] * 9 + [1e-3] * 10 + [1e-4] * 20 + [1e-3] * 20 + [1e-2] * 12)


@pytest.mark.parametrize("stop", [None, 38])
def test_the_rate_climbs_only_where_a_look_is_due(stop: int | None, rows: Tensor) -> None:
    """Back to the checkpoint of step 8 and 30 good steps later at 38, but looks are due at multiples of 3.

    An interruption looks at 38 too, and must not matter.
    """
    engine, events = _climber(9, every=3, checkpoint_every=8, stop=stop)
    data = cf.batches(rows, size=16)
    while engine.step < 60:
        engine.fit(data, steps=60)
    assert events.rates == pytest.approx([1e-2] * 8 + [1e-3] * 31 + [1e-2] * 21)


@pytest.mark.parametrize("cut", [12, 27, 28, 29, 40])
def test_a_resume_on_the_way_up_is_bitwise(cut: int, rows: Tensor, tmp_path: Path) -> None:
    straight, expected = _climber(10)
    data = cf.batches(rows, size=16)
    straight.fit(data, steps=60)
    wanted = straight.state_dict(data)

    first, before = _climber(10, folder=tmp_path, stop=cut)
    assert first.fit(cf.batches(rows, size=16), steps=60).steps == cut
    second, after = _climber()
    second.resume(latest_checkpoint(tmp_path))
    data = cf.batches(rows, size=16)
    second.fit(data, steps=60)
    assert before.rates + after.rates == expected.rates
    assert before.kinds() + after.kinds() == expected.kinds()
    state = second.state_dict(data)
    assert state["retries"] == wanted["retries"]
    for name, value in state["modules"]["energy"].items():
        assert torch.equal(value, wanted["modules"]["energy"][name]), name


# -- broken data -------------------------------------------------------------------------------------------------------


class Spoilt:
    """A stream with an infinity in some rows of one batch."""

    def __init__(self, at: int, value: float) -> None:
        self.at, self.value, self.position = at, value, 0

    def __next__(self) -> Batch:
        x = torch.randn(16, 2, generator=torch.Generator().manual_seed(self.position))
        if self.position == self.at:
            x[[3, 8, 9], [0, 1, 0]] = self.value
        self.position += 1
        return Batch(x)

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.position = state["position"]


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_broken_rows_are_named_and_not_retried(value: float, accumulate: int, tmp_path: Path) -> None:
    events = Events()
    engine = Engine(
        Ill(range(0)), LOSS, guard=Guard(every=20), callbacks=[events], checkpoints=tmp_path, accumulate=accumulate
    )
    with pytest.raises(
        TrainingDivergedError, match=r"3 rows of the batch at step 30 hold NaN or infinite .*clean the data"
    ):
        engine.fit(Spoilt(30 * accumulate + accumulate - 1, value), steps=100)
    assert engine.step == 20 and events.kinds() == ["diverged"]
    _assert_sound(engine, tmp_path)


# -- nothing broken is kept --------------------------------------------------------------------------------------------


class _Poison(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] * math.nan


class Poisoned(Ill):
    """Finite energies whose gradient is NaN in certain calls."""

    def forward(self, x: Tensor) -> Tensor:
        self.called += 1
        values: Tensor = self.inner(x)
        poisoned: Tensor = _Poison.apply(values) if self.called in self.calls else values
        return poisoned


@pytest.mark.parametrize("call", [40, 60], ids=["between", "in the last step"])
def test_a_gradient_that_is_nan_under_a_finite_loss_is_noticed(call: int, rows: Tensor, tmp_path: Path) -> None:
    events = Events()
    engine = Engine(
        Poisoned(range(call, call + 1)), LOSS, guard=Guard(every=25), callbacks=[events], checkpoints=tmp_path
    )
    assert engine.fit(cf.batches(rows, size=16), steps=60).steps == 60
    assert events.kinds() == ["guard"]
    if call == 60:
        assert "norm of the parameters of player 'energy' was nan at step 60" in events.events[0][1]
    _assert_sound(engine, tmp_path)


def test_a_state_is_looked_at_before_an_early_stop_keeps_it(rows: Tensor, tmp_path: Path) -> None:
    class Stop(Events):
        def on_step(self, engine: Engine) -> None:
            if engine.step == 33:
                engine.request_stop("enough")

    stop = Stop()
    engine = Engine(Poisoned(range(33, 34)), LOSS, guard=Guard(every=10), callbacks=[stop], checkpoints=tmp_path)
    report = engine.fit(cf.batches(rows, size=16), steps=60)
    assert (report.stopped, report.steps) == ("enough", 33)  # at the second time round
    assert stop.kinds() == ["guard"]
    _assert_sound(engine, tmp_path)


# -- several players ---------------------------------------------------------------------------------------------------


def test_the_player_that_broke_is_named_and_all_go_back(rows: Tensor, tmp_path: Path) -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shift = Parameter(torch.zeros(2))
            self.register_buffer("rounds", torch.tensor(0))
            self.total = 0

        def players(self, energy: nn.Module, /) -> Mapping[str, Sequence[Parameter]]:
            return {"energy": list(energy.parameters()), "generator": [self.shift]}

        def updates(self, energy: Energy, batch: Batch, step: int, generator: torch.Generator) -> Iterator[Update]:
            self.rounds += 1
            self.total += 1
            yield Update("energy", energy(batch.x).tanh().mean())
            loss = energy(batch.x + self.shift).mean()
            yield Update("generator", loss * (math.nan if self.total == 26 else 1.0))

    pair, events = Pair(), Events()
    events.on_log = lambda engine, record: None  # type: ignore[method-assign]
    engine = Engine(Ill(range(0)), pair, guard=Guard(every=10), callbacks=[events], checkpoints=tmp_path)
    engine.fit(cf.batches(rows, size=16), steps=40)
    assert events.kinds() == ["guard"] and "loss of player 'generator' was nan at step 25" in events.events[0][1]
    assert pair.rounds == 40 and pair.total == 46  # the buffer went back to 20, the attribute did not
    _assert_sound(engine, tmp_path)


# -- accelerators ------------------------------------------------------------------------------------------------------


CUDA = torch.device("cuda")  # only its type is looked at


def _update(loss: float, **energies: float) -> Update:
    return Update("energy", torch.tensor(loss, requires_grad=True), {k: torch.tensor(v) for k, v in energies.items()})


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -2e6, 2e6])
@pytest.mark.parametrize("place", [0, 2, 4])
def test_an_accelerator_notes_now_and_looks_later(bad: float, place: int) -> None:
    watch = Watch(Guard(), CUDA)
    for step in range(5):
        assert watch.sees(_update(bad if step == place else 1.0, energy_data=-3.0), step) is None
    symptom = watch.looks(7)
    assert symptom is not None
    assert (symptom.player, symptom.quantity, symptom.step) == ("energy", "loss", 7)
    assert not symptom.value <= 1e6
    assert watch.looks(8) is None  # a look starts anew


def test_an_accelerator_notes_energies_of_every_player() -> None:
    watch = Watch(Guard(limit=10.0), CUDA)
    watch.sees(_update(1.0, energy_data=3.0, accuracy=1e9), 0)
    watch.sees(Update("generator", torch.tensor(2.0), {"energy_fake": torch.tensor(-11.0)}), 0)
    symptom = watch.looks(1)
    assert symptom is not None
    assert (symptom.player, symptom.quantity, symptom.value) == ("generator", "energy_fake", 11.0)


def test_the_name_of_a_metric_decides_whether_it_is_watched() -> None:
    update = Update("energy", torch.tensor(1.0, requires_grad=True), {k: torch.ones(()) for k in NAMES})
    assert set(update.watched) == {"loss", "energy_data", "energy"}
    assert not any(value.requires_grad for value in update.watched.values())


NAMES = ("energy_data", "energy", "accuracy", "generator_energy", "Energy_data")


def test_on_the_cpu_a_symptom_is_seen_at_once() -> None:
    watch = Watch(Guard(), torch.device("cpu"))
    assert watch.sees(_update(1.0, energy_data=2.0), 0) is None
    symptom = watch.sees(_update(1.0, energy_data=math.inf), 4)
    assert symptom is not None and str(symptom) == "energy_data of player 'energy' was inf at step 4"
    assert watch.looks(5) is None


@pytest.mark.parametrize("device", [CUDA, torch.device("cpu")])
def test_an_objective_may_set_a_limit_for_any_metric(device: torch.device) -> None:
    watch = Watch(Guard(limit=1e6), device)

    def seen(excess: float, step: int) -> Symptom | None:
        metrics = {"excess": torch.tensor(excess), "accuracy": torch.tensor(1e9)}
        update = Update("energy", torch.tensor(1.0, requires_grad=True), metrics, {"excess": 100.0})
        return watch.sees(update, step) or watch.looks(step)

    assert seen(99.0, 0) is None
    symptom = seen(101.0, 1)
    assert symptom is not None and str(symptom) == "excess of player 'energy' was 101 at step 1"
    assert seen(99.0, 2) is None
    # a guard that is stricter stays so
    strict = Watch(Guard(limit=50.0), device)
    update = Update("energy", torch.tensor(1.0), {"excess": torch.tensor(75.0)}, {"excess": 100.0})
    assert strict.sees(update, 0) or strict.looks(0)
    with pytest.raises(ValueError, match="limits are of metrics"):
        Update("energy", torch.tensor(1.0), {"excess": torch.tensor(75.0)}, {"exces": 100.0})


def test_notes_hold_no_graph_and_wait_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(Guard(), CUDA)
    with monkeypatch.context() as patch:
        patch.setattr(Tensor, "item", lambda self: pytest.fail("a sync"))
        for step in range(3):
            watch.sees(_update(1.0, energy_data=2.0), step)
    assert not any(value.requires_grad for value in watch._worst.values())


@pytest.mark.parametrize("calls", [range(47, 48), range(47, FOREVER)], ids=["once", "from then on"])
def test_on_an_accelerator_the_state_gone_back_to_is_older_than_the_harm(
    calls: range, monkeypatch: pytest.MonkeyPatch, rows: Tensor, tmp_path: Path
) -> None:
    monkeypatch.setattr(recovery_module, "Watch", lambda guard, device: Watch(guard, CUDA))
    events = Events()
    engine = Engine(
        Ill(calls), LOSS, guard=Guard(every=20), callbacks=[events], checkpoints=tmp_path, checkpoint_every=15
    )
    data = cf.batches(rows, size=16)
    if calls.stop == FOREVER:
        with pytest.raises(TrainingDivergedError, match="was nan at step 60"):
            engine.fit(data, steps=100)
        assert engine.step == 45
    else:
        assert engine.fit(data, steps=100).steps == 100
        assert "nan at step 60; back to step 45" in events.events[0][1]  # looked at where a checkpoint was due
    _assert_sound(engine, tmp_path)


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"limit": 0.0}, "limit .* got 0.0"),
        ({"limit": math.inf}, "limit .* got inf"),
        ({"every": 0}, "every .* got 0"),
        ({"tries": 0}, "tries .* got 0"),
        ({"tries": 1.5}, "tries .* got 1.5"),
        ({"backoff": 1.0}, "backoff must be between 0 and 1, got 1.0"),
        ({"backoff": 0.0}, "backoff must be between 0 and 1, got 0.0"),
        ({"backoff": math.nan}, "backoff .* got nan"),
    ],
)
def test_the_guard_refuses(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Guard(**setting)
