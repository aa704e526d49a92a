"""Early stopping: the best step, its weights, and no trace in the training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import chainfree as cf
from chainfree.engine import Callback, Engine, HeldOut, latest_checkpoint
from chainfree.typing import Batch, Energy, Update

LOSS = cf.losses.EnergyDiscrepancy()


class Scripted:
    """A metric whose values are given, and which remembers the weights it saw."""

    def __init__(self, *values: float) -> None:
        self.values = list(values)
        self.seen: list[list[Tensor]] = []

    def __call__(self, energy: nn.Module) -> float:
        assert not energy.training and not any(p.requires_grad for p in energy.parameters())
        self.seen.append([p.clone() for p in energy.parameters()])
        return self.values[len(self.seen) - 1]


def _engine(*callbacks: Callback, **options: Any) -> Engine:
    torch.manual_seed(0)
    return Engine(cf.energies.MLP(dim=2, width=8), LOSS, ema=0.9, callbacks=callbacks, **options)


def _equal(module: nn.Module, weights: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(module.parameters(), weights, strict=True))


def test_training_stops_at_patience_and_the_best_weights_come_back(rows: Tensor) -> None:
    metric = Scripted(3.0, 2.0, 1.0, 1.5, 1.2, 0.1)
    held_out = HeldOut(metric, every=10, patience=2)
    engine = _engine(held_out)
    report = engine.fit(cf.batches(rows, size=16), steps=200)
    assert (report.steps, report.stopped) == (50, "no better held_out_loss than 1 at step 30")
    assert (held_out.best, held_out.best_step) == (1.0, 30)
    assert _equal(engine.energy, metric.seen[2]) and _equal(engine.averaged_energy(), metric.seen[2])
    assert not _equal(engine.energy, metric.seen[4])


def test_the_best_weights_come_back_also_at_the_end(rows: Tensor) -> None:
    metric = Scripted(3.0, 1.0, 2.0)
    engine = _engine(HeldOut(metric, every=10, patience=5))
    assert engine.fit(cf.batches(rows, size=16), steps=30).stopped == "completed"
    assert _equal(engine.energy, metric.seen[1])


def test_patience_starts_anew_with_every_new_best(rows: Tensor) -> None:
    held_out = HeldOut(Scripted(3.0, 4.0, 2.0, 4.0, 1.0, 4.0, 4.0), every=5, patience=2)
    assert _engine(held_out).fit(cf.batches(rows, size=16), steps=100).steps == 35
    assert held_out.best_step == 25


def test_the_weights_of_the_start_may_be_the_best(rows: Tensor) -> None:
    metric = Scripted(1.0, 2.0, 1.5)
    held_out = HeldOut(metric, every=10, patience=2, from_start=True)
    engine = _engine(held_out)
    assert engine.fit(cf.batches(rows, size=16), steps=100).steps == 20
    assert held_out.best_step == 0
    assert _equal(engine.energy, metric.seen[0]) and not _equal(engine.energy, metric.seen[2])


def test_equal_is_not_better(rows: Tensor) -> None:
    held_out = HeldOut(Scripted(1.0, 1.0, 1.0), every=5, patience=2)
    assert _engine(held_out).fit(cf.batches(rows, size=16), steps=100).steps == 15
    assert held_out.best_step == 5


def test_a_metric_that_is_nan_is_never_the_best(rows: Tensor) -> None:
    metric = Scripted(math.nan, 2.0, math.nan, 1.0)
    held_out = HeldOut(metric, every=10, patience=3)
    engine = _engine(held_out)
    engine.fit(cf.batches(rows, size=16), steps=40)
    assert (held_out.best, held_out.best_step) == (1.0, 40)
    assert _equal(engine.energy, metric.seen[3])


def test_a_metric_that_is_always_nan_stops_and_says_so(rows: Tensor) -> None:
    engine = _engine(HeldOut(Scripted(*[math.nan] * 5), every=10, patience=2))
    report = engine.fit(cf.batches(rows, size=16), steps=50)
    assert report.steps == 20 and "held_out_loss" in report.stopped


def test_watching_leaves_the_training_bitwise_alone(rows: Tensor) -> None:
    def metric(energy: nn.Module) -> float:
        generator = torch.Generator().manual_seed(0)
        return LOSS(energy, rows, generator=generator).loss.item()

    trained = []
    for callbacks in ([], [HeldOut(metric, every=7)]):
        engine = _engine(*callbacks)
        engine.fit(cf.batches(rows, size=16), steps=50)
        trained.append([*engine.energy.parameters(), *engine.averaged_energy().parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*trained, strict=True))


def test_the_metric_is_logged_under_its_name(rows: Tensor) -> None:
    class Listener(Callback):
        records: list[dict[str, float]] = []  # noqa: RUF012

        def on_log(self, engine: Engine, record: Mapping[str, float]) -> None:
            self.records.append(dict(record))

    listener = Listener()
    _engine(HeldOut(Scripted(3.0, 2.0), every=10, name="nll"), listener, log_every=5).fit(
        cf.batches(rows, size=16), steps=20
    )
    assert [record.get("nll") for record in listener.records] == [None, 3.0, None, 2.0]


def test_the_search_survives_a_resume(rows: Tensor, tmp_path: Path) -> None:
    class StopAt(Callback):
        def __init__(self, step: int) -> None:
            self.step = step

        def on_step(self, engine: Engine) -> None:
            if engine.step == self.step:
                engine.request_stop("split")

        def on_end(self, engine: Engine, stopped: str) -> None:
            """The checkpoint is written by now; what HeldOut puts back must not be in it."""

    first = Scripted(3.0, 1.0, 1.5)
    engine = _engine(HeldOut(first, every=10, patience=3), StopAt(35), checkpoints=tmp_path)
    engine.fit(cf.batches(rows, size=16), steps=100)

    second = Scripted(1.4, 1.3)
    held_out = HeldOut(second, every=10, patience=3)
    resumed = _engine(held_out, StopAt(0))
    resumed.resume(latest_checkpoint(tmp_path))
    report = resumed.fit(cf.batches(rows, size=16), steps=100)
    assert (report.steps, held_out.best, held_out.best_step) == (50, 1.0, 20)
    assert _equal(resumed.energy, first.seen[1])

    straight = Scripted(3.0, 1.0, 1.5, 1.4, 1.3)
    _engine(HeldOut(straight, every=10, patience=3), StopAt(0)).fit(cf.batches(rows, size=16), steps=100)
    for mine, theirs in zip([*first.seen, *second.seen], straight.seen, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


def test_an_interrupted_search_keeps_the_last_weights(rows: Tensor) -> None:
    """It will be resumed from them."""
    held_out, engine = HeldOut(Scripted(1.0), every=10, patience=3), _engine()
    engine.fit(cf.batches(rows, size=16), steps=10)
    before = [p.detach().clone() for p in engine.energy.parameters()]
    held_out.load_state_dict(
        {"best": 1.0, "best_step": 5, "since_best": 0, "best_weights": {"energy": _engine().energy.state_dict()}}
    )
    for stopped in ("interrupted", "diverged", "failed"):
        held_out.on_end(engine, stopped)
        assert _equal(engine.energy, before), stopped
    held_out.on_end(engine, "completed")
    assert not _equal(engine.energy, before)


# -- several modules ---------------------------------------------------------------------------------------------------


class Pair(nn.Module):
    """A generator with running statistics beside the energy."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))

    def players(self, energy: nn.Module, /) -> Mapping[str, Sequence[nn.Parameter]]:
        return {"energy": list(energy.parameters()), "generator": list(self.generator.parameters())}

    def updates(self, energy: Energy, batch: Batch, step: int, generator: torch.Generator) -> Iterator[Update]:
        fake = self.generator(torch.randn(batch.x.shape, generator=generator))
        yield Update("energy", (energy(batch.x).tanh() - energy(fake.detach()).tanh()).mean())
        yield Update("generator", energy(fake).tanh().mean())


class ScriptedPair(Scripted):
    """A metric of energy and generator that remembers all that it saw, buffers too."""

    def __call__(self, energy: nn.Module, generator: nn.Module) -> float:  # type: ignore[override]
        assert isinstance(generator, nn.Sequential) and not generator.training
        assert not any(p.requires_grad for p in generator.parameters())
        self.seen.append([v.clone() for v in [*energy.state_dict().values(), *generator.state_dict().values()]])
        return self.values[len(self.seen) - 1]


def _pair_engine(values: Sequence[float], **options: Any) -> tuple[Engine, Pair, ScriptedPair, HeldOut]:
    torch.manual_seed(0)
    energy, pair, metric = cf.energies.MLP(dim=2, width=8), Pair(), ScriptedPair(*values)
    held_out = HeldOut(metric, of=(energy, pair.generator), every=10, patience=2)
    stop = options.pop("stop", None)
    engine = Engine(energy, pair, callbacks=[held_out, _StopAt(stop)], **{"ema": 0.9, **options})
    return engine, pair, metric, held_out


class _StopAt(Callback):
    def __init__(self, step: int | None) -> None:
        self.step = step

    def on_step(self, engine: Engine) -> None:
        if engine.step == self.step:
            engine.request_stop("split")


def _values(*modules: nn.Module) -> list[Tensor]:
    return [value.clone() for module in modules for value in module.state_dict().values()]


def _all_equal(mine: Sequence[Tensor], theirs: Sequence[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


@pytest.mark.parametrize("ema", [0.9, None])
def test_energy_and_generator_end_at_the_same_step(ema: float | None, rows: Tensor) -> None:
    engine, pair, metric, held_out = _pair_engine([3.0, 1.0, 1.5, 1.2], ema=ema)
    report = engine.fit(cf.batches(rows, size=16), steps=200)
    assert (report.steps, held_out.best_step) == (40, 20)
    assert _all_equal(_values(engine.energy, pair.generator), metric.seen[1])
    assert _all_equal(_values(engine.averaged(), engine.averaged(pair.generator)), metric.seen[1])
    assert pair.generator[1].num_batches_tracked == 20  # the running statistics are those of the step too
    assert not any(torch.equal(a, b) for a, b in zip(metric.seen[1], metric.seen[3], strict=True))


def test_a_metric_of_the_energy_alone_brings_the_generator_back_too(rows: Tensor) -> None:
    torch.manual_seed(0)
    pair, generators = Pair(), []

    class Note(Callback):
        def on_step(self, engine: Engine) -> None:
            if engine.step == 20:
                generators.extend(_values(engine.averaged(pair.generator)))

    metric = Scripted(3.0, 1.0, 1.5, 1.2)
    engine = Engine(
        cf.energies.MLP(dim=2, width=8), pair, ema=0.9, callbacks=[HeldOut(metric, every=10, patience=2), Note()]
    )
    engine.fit(cf.batches(rows, size=16), steps=200)
    assert _equal(engine.energy, metric.seen[1])
    assert _all_equal(_values(pair.generator), generators)


def test_the_search_over_several_modules_survives_a_resume(rows: Tensor, tmp_path: Path) -> None:
    straight, pair, metric, _ = _pair_engine([3.0, 1.0, 1.5, 1.2])
    straight.fit(cf.batches(rows, size=16), steps=200)
    expected = _values(straight.energy, pair)

    _pair_engine([3.0, 1.0, 1.5], stop=35, checkpoints=tmp_path)[0].fit(cf.batches(rows, size=16), steps=200)
    resumed, pair, rest, held_out = _pair_engine([1.2])
    resumed.resume(latest_checkpoint(tmp_path))
    report = resumed.fit(cf.batches(rows, size=16), steps=200)
    assert (report.steps, held_out.best, held_out.best_step) == (40, 1.0, 20)
    assert _all_equal(_values(resumed.energy, pair), expected)
    assert _all_equal(rest.seen[0], metric.seen[3])


def test_a_module_that_is_not_trained_is_refused_before_the_first_step(rows: Tensor) -> None:
    engine = _engine(HeldOut(Scripted(), of=[nn.Linear(2, 2)]))
    with pytest.raises(ValueError, match=r"Linear is no part of energy.*; give the energy"):
        engine.fit(cf.batches(rows, size=16), steps=10)
    assert engine.step == 0


def test_adopted_weights_leave_modules_alone_that_are_not_named(rows: Tensor) -> None:
    engine, pair, _, _ = _pair_engine([3.0, 2.0])
    data = cf.batches(rows, size=16)
    engine.fit(data, steps=25)
    raw, averaged = _values(pair), _values(engine.averaged(pair))
    engine.adopt_weights({"energy": {name: torch.ones_like(v) for name, v in engine.energy.state_dict().items()}})
    assert _all_equal(_values(pair), raw) and _all_equal(_values(engine.averaged(pair)), averaged)
    assert all(bool((value == 1).all()) for value in _values(engine.energy, engine.averaged()))


def test_weights_of_unknown_modules_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\['critic'\].*\['energy'\]"):
        _engine().adopt_weights({"critic": {}})


@pytest.mark.parametrize("setting", [{"every": 0}, {"every": 2.5}, {"patience": 0}, {"patience": -1}])
def test_settings_are_checked(setting: dict[str, Any]) -> None:
    (name, value), *_ = setting.items()
    with pytest.raises(ValueError, match=f"{name} must be a whole number above 0, got {value}"):
        HeldOut(Scripted(), **setting)
