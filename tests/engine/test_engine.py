"""The engine against training loops written out by hand, and what it refuses."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.utils._python_dispatch import TorchDispatchMode

import chainfree as cf
from chainfree.engine import Callback, Constant, Cosine, Engine, Guard, OptimizerSettings
from chainfree.typing import Batch, Energy, LossOutput, Update


class Mean:
    """A loss without noise that is a plain mean over rows."""

    def __call__(self, energy: Energy, x: Tensor, /, *, generator: torch.Generator | None = None) -> LossOutput:
        loss = (nn.functional.softplus(3 * energy(x)) + nn.functional.softplus(-energy(-2 * x))).mean()
        return LossOutput(loss, {"loss": loss.detach()})


def _network(dtype: torch.dtype = torch.float64, seed: int = 3) -> cf.energies.MLP:
    torch.manual_seed(seed)
    return cf.energies.MLP(dim=2, width=8, depth=2).to(dtype)


def _weights(module: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in module.parameters()]


def _assert_close(mine: Sequence[Tensor], theirs: Sequence[Tensor], tolerance: float = 1e-11) -> None:
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


# -- against hand-written loops ----------------------------------------------------------------------------------------


def _by_hand(
    network: nn.Module,
    batches: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    decay: float,
    factor: Any,
    clip: float | None,
    ema: float,
) -> tuple[list[Tensor], list[Tensor], list[float]]:
    """Loshchilov and Hutter's AdamW (Algorithm 2), clipping by the global norm and the moving average, from the formulas."""
    p = [q.detach().clone() for q in network.parameters()]
    m, v = [torch.zeros_like(q) for q in p], [torch.zeros_like(q) for q in p]
    average, norms = [q.clone() for q in p], []
    for t, x in enumerate(batches):
        for q, new in zip(network.parameters(), p, strict=True):
            q.data = new.clone()
        gradients = torch.autograd.grad(Mean()(network, x).loss, list(network.parameters()))
        norms.append(math.sqrt(sum(float((g**2).sum()) for g in gradients)))
        if clip is not None and norms[-1] > clip:
            gradients = tuple(g * clip / norms[-1] for g in gradients)
        rate = lr * factor(t)
        for i, g in enumerate(gradients):
            p[i] = p[i] * (1 - rate * decay)
            m[i] = betas[0] * m[i] + (1 - betas[0]) * g
            v[i] = betas[1] * v[i] + (1 - betas[1]) * g * g
            m_hat, v_hat = m[i] / (1 - betas[0] ** (t + 1)), v[i] / (1 - betas[1] ** (t + 1))
            p[i] = p[i] - rate * m_hat / (v_hat.sqrt() + eps)
        d = min(ema, (1 + t) / (10 + t))
        average = [d * a + (1 - d) * q for a, q in zip(average, p, strict=True)]
    return p, average, norms


@pytest.mark.parametrize("clip", [None, 0.4])
def test_fifty_steps_equal_the_formulas_by_hand(rows: Tensor, clip: float | None) -> None:
    x, steps, warmup = rows.double(), 50, 7
    network = _network()
    batches = [x[[(24 * t + i) % 96 for i in range(24)]] for t in range(steps)]

    def factor(t: int) -> float:
        if t < warmup:
            return (t + 1) / warmup
        return 0.1 + 0.9 * (1 + math.cos(math.pi * (t - warmup) / (steps - warmup))) / 2

    settings: dict[str, Any] = {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-6}
    weights, averages, norms = _by_hand(
        copy.deepcopy(network), batches, **settings, decay=0.1, factor=factor, clip=clip, ema=0.9
    )
    if clip is not None:
        assert sum(norm > clip for norm in norms) > 10  # clipping matters here
        assert min(norms) < clip

    engine = Engine(
        network,
        Mean(),
        optimizer=OptimizerSettings(**settings, weight_decay=0.1),
        schedule=Cosine(warmup=warmup, final=0.1),
        clip=clip,
        ema=0.9,
    )
    engine.fit(cf.batches(x, size=24, shuffle=False), steps=steps)
    # torch's clipping adds 1e-6 to the norm
    _assert_close(_weights(network), weights, 1e-11 if clip is None else 1e-5)
    _assert_close(_weights(engine.averaged_energy()), averages, 1e-11 if clip is None else 1e-5)


@pytest.mark.parametrize("fused", [False, True])
def test_fifty_steps_equal_a_plain_torch_loop(rows: Tensor, fused: bool) -> None:
    network = _network(torch.float32)
    plain, steps = copy.deepcopy(network), 50
    optimizer = torch.optim.AdamW(plain.parameters(), lr=3e-3, weight_decay=0.01, fused=fused)
    for t in range(steps):
        optimizer.param_groups[0]["lr"] = 3e-3 * 0.5 * (1 + math.cos(math.pi * t / steps))
        optimizer.zero_grad()
        Mean()(plain, rows[[(24 * t + i) % 96 for i in range(24)]]).loss.backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
        optimizer.step()

    settings = OptimizerSettings(lr=3e-3, weight_decay=0.01)
    report = Engine(network, Mean(), optimizer=settings, clip=0.5, ema=None).fit(
        cf.batches(rows, size=24, shuffle=False), steps=steps
    )
    assert (report.steps, report.stopped) == (steps, "completed")
    _assert_close(_weights(network), _weights(plain), 1e-5)


def test_randomness_comes_from_the_seed_alone(rows: Tensor) -> None:
    def train(seed: int, disturbed: bool) -> list[Tensor]:
        network = _network(torch.float32)
        torch.manual_seed(99 if disturbed else 1)
        Engine(network, cf.losses.EnergyDiscrepancy(), seed=seed).fit(cf.batches(rows, size=16), steps=10)
        return _weights(network)

    first, again, other = train(4, False), train(4, True), train(5, False)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_training_leaves_the_global_generator_alone(rows: Tensor) -> None:
    engine = Engine(_network(torch.float32), cf.losses.EnergyDiscrepancy(), guard=None)
    before = torch.get_rng_state()
    engine.fit(cf.batches(rows, size=16), steps=5)
    assert torch.equal(torch.get_rng_state(), before)


# -- accumulation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [2, 4])
def test_accumulated_batches_equal_one_big_batch(rows: Tensor, k: int) -> None:
    x, trained = rows.double(), []
    for size, accumulate in [(24, 1), (24 // k, k)]:
        network = _network()
        engine = Engine(network, Mean(), accumulate=accumulate, clip=0.3, ema=0.9)
        engine.fit(cf.batches(x, size=size, shuffle=False), steps=30)
        trained.append(_weights(network) + _weights(engine.averaged_energy()))
    _assert_close(*trained)


class Duel(nn.Module):
    """Two players whose losses are plain means, each losing what the other gains; no noise."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = Parameter(torch.tensor([0.5, -0.5], dtype=torch.float64))

    def players(self, energy: nn.Module, /) -> Mapping[str, Sequence[Parameter]]:
        return {"energy": list(energy.parameters()), "generator": [self.shift]}

    def updates(self, energy: Energy, batch: Batch, step: int, generator: torch.Generator) -> Iterator[Update]:
        fake = batch.x + self.shift
        yield Update("energy", (nn.functional.softplus(energy(batch.x)) - energy(fake.detach()).tanh()).mean())
        yield Update("generator", (energy(fake) + 0.1 * self.shift.square().sum()).mean())


def test_accumulated_rounds_of_two_players_equal_big_ones(rows: Tensor) -> None:
    """Only if players alternate in lockstep: the generator must meet the energy that all batches have stepped."""
    x, trained = rows.double(), []
    for size, accumulate in [(24, 1), (8, 3)]:
        network, duel = _network(), Duel()
        engine = Engine(network, duel, accumulate=accumulate, optimizer=OptimizerSettings(lr=0.05))
        engine.fit(cf.batches(x, size=size, shuffle=False), steps=30)
        trained.append([*_weights(network), duel.shift.detach().clone()])
    _assert_close(*trained)
    assert (trained[0][-1] - torch.tensor([0.5, -0.5])).abs().min() > 0.01  # it was trained


# -- no sync in the loop -----------------------------------------------------------------------------------------------


class Syncs(TorchDispatchMode):
    """Counts what would wait for an accelerator: scalars brought to the host, shapes that depend on values."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.count += name in {"_local_scalar_dense", "is_nonzero", "nonzero", "equal", "masked_select", "_unique2"}
        return func(*args, **(kwargs or {}))


def _syncs(monkeypatch: pytest.MonkeyPatch, engine: Engine, data: Any, steps: int) -> int:
    with monkeypatch.context() as patch, Syncs() as syncs:
        for name in ("tolist", "numpy", "cpu"):  # these go past the dispatcher on the CPU
            original = getattr(Tensor, name)

            def counted(self: Tensor, *args: Any, _original: Any = original, **kwargs: Any) -> Any:
                syncs.count += 1
                return _original(self, *args, **kwargs)

            patch.setattr(Tensor, name, counted)
        engine.fit(data, steps=steps)
    return syncs.count


@pytest.mark.parametrize("accumulate", [1, 2])
def test_no_step_waits_for_the_device(monkeypatch: pytest.MonkeyPatch, rows: Tensor, accumulate: int) -> None:
    def count(steps: int, guard: Guard | None) -> int:
        network = _network(torch.float32)
        loss = cf.losses.EnergyDiscrepancy()
        engine = Engine(network, loss, guard=guard, clip=1.0, ema=0.99, accumulate=accumulate)
        return _syncs(monkeypatch, engine, cf.batches(rows, size=16), steps)

    assert count(40, None) == count(10, None) <= 1  # whether denormals were flushed before
    assert count(40, Guard()) > count(10, Guard()) > 0  # on the CPU the guard looks at every step: the counter counts


def test_metrics_come_to_the_host_only_when_logged(monkeypatch: pytest.MonkeyPatch, rows: Tensor) -> None:
    def count(steps: int) -> int:
        loss = cf.losses.EnergyDiscrepancy()
        engine = Engine(_network(torch.float32), loss, guard=None, callbacks=[Callback()], log_every=10)
        return _syncs(monkeypatch, engine, cf.batches(rows, size=16), steps)

    assert count(60) - count(20) == 4  # one for all metrics of a record


# -- fit ---------------------------------------------------------------------------------------------------------------


def test_fit_goes_on_where_it_was(rows: Tensor) -> None:
    trained = []
    for parts in ([40], [15, 40]):
        network = _network(torch.float32)
        engine = Engine(network, cf.losses.EnergyDiscrepancy(), schedule=Constant())
        data = cf.batches(rows, size=16)
        for steps in parts:
            report = engine.fit(data, steps=steps)
            assert (report.steps, report.stopped, engine.step) == (steps, "completed", steps)
        trained.append(_weights(network))
    assert all(torch.equal(a, b) for a, b in zip(*trained, strict=True))


def test_fit_with_nothing_left_to_do_changes_nothing(rows: Tensor) -> None:
    network = _network(torch.float32)
    engine, data = Engine(network, Mean()), cf.batches(rows, size=16)
    engine.fit(data, steps=10)
    before = _weights(network)
    assert engine.fit(data, steps=10).steps == engine.fit(data, steps=3).steps == 10
    assert all(torch.equal(a, b) for a, b in zip(_weights(network), before, strict=True))


@pytest.mark.parametrize("steps", [0, -1, 2.5, True])
def test_fit_refuses_steps_that_are_no_count(rows: Tensor, steps: Any) -> None:
    with pytest.raises(ValueError, match=rf"steps must be a whole number above 0, got {steps!r}"):
        Engine(_network(torch.float32), Mean()).fit(cf.batches(rows, size=16), steps=steps)


def test_a_callback_may_end_training(rows: Tensor, tmp_path: Path) -> None:
    class Stop(Callback):
        ended = ""

        def on_step(self, engine: Engine) -> None:
            if engine.step == 7:
                engine.request_stop("enough")

        def on_end(self, engine: Engine, stopped: str) -> None:
            self.ended = stopped

    stop = Stop()
    engine = Engine(_network(torch.float32), Mean(), callbacks=[stop], checkpoints=tmp_path)
    report = engine.fit(cf.batches(rows, size=16), steps=20)
    assert (report.steps, report.stopped, stop.ended) == (7, "enough", "enough")
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000007.pt"]
    assert engine.fit(cf.batches(rows, size=16), steps=20).stopped == "completed"  # the request is spent


def test_fit_trains_in_training_mode_and_evaluates_in_the_other(rows: Tensor) -> None:
    network = _network(torch.float32).eval()
    engine = Engine(network, Mean())
    engine.fit(cf.batches(rows, size=16), steps=2)
    twin = engine.averaged_energy()
    assert network.training and not twin.training
    assert not any(p.requires_grad for p in twin.parameters())
    assert not {p.data_ptr() for p in twin.parameters()} & {p.data_ptr() for p in network.parameters()}


def test_the_average_is_the_weights_themselves_without_ema(rows: Tensor) -> None:
    network = _network(torch.float32)
    engine = Engine(network, Mean(), ema=None)
    engine.fit(cf.batches(rows, size=16), steps=5)
    assert all(torch.equal(a, b) for a, b in zip(_weights(engine.averaged_energy()), _weights(network), strict=True))


def test_frozen_parameters_stay(rows: Tensor) -> None:
    network = _network(torch.float32)
    first = next(network.parameters()).requires_grad_(False)
    before = first.clone()
    engine = Engine(network, Mean())
    engine.fit(cf.batches(rows, size=16), steps=5)
    assert torch.equal(first, before)
    assert torch.equal(next(engine.averaged_energy().parameters()), before)


def test_bf16_runs_the_energy_in_bf16_and_keeps_weights_in_fp32(rows: Tensor) -> None:
    seen = []

    class Spy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = _network(torch.float32)
            hidden = next(m for m in self.inner.modules() if isinstance(m, nn.Linear))
            hidden.register_forward_hook(lambda module, given, out: seen.append(out.dtype))

        def forward(self, x: Tensor) -> Tensor:
            values: Tensor = self.inner(x)
            assert values.dtype == torch.float32  # the last sum is not rounded
            return values

    network, exact = Spy(), Spy()
    Engine(network, Mean(), precision="bf16").fit(cf.batches(rows, size=16, shuffle=False), steps=20)
    assert set(seen) == {torch.bfloat16}
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    Engine(exact, Mean()).fit(cf.batches(rows, size=16, shuffle=False), steps=20)
    _assert_close(_weights(network), _weights(exact), 0.02)
    assert not torch.equal(_weights(network)[0], _weights(exact)[0])


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"seed": -1}, r"seed must be at least 0, got -1"),
        ({"clip": 0.0}, r"clip must be a finite number above 0, got 0.0"),
        ({"clip": math.nan}, r"clip .* got nan"),
        ({"ema": 1.0}, r"ema must be a number in \[0, 1\), got 1.0"),
        ({"ema": -0.1}, r"ema .* got -0.1"),
        ({"precision": "fp16"}, r"precision must be 'fp32' or 'bf16', got 'fp16'"),
        ({"accumulate": 0}, r"accumulate must be a whole number above 0, got 0"),
        ({"accumulate": 1.5}, r"accumulate .* got 1.5"),
        ({"log_every": 0}, r"log_every .* got 0"),
        ({"checkpoint_every": -3}, r"checkpoint_every .* got -3"),
        ({"optimizer": {"critic": OptimizerSettings()}}, r"\['critic'\].*\['energy'\]"),
    ],
)
def test_the_constructor_refuses(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Engine(_network(), Mean(), **setting)
    assert "\n" not in str(caught.value)


def test_an_energy_without_trainable_parameters_is_refused() -> None:
    with pytest.raises(ValueError, match=r"player 'energy' has no trainable parameter"):
        Engine(_network().requires_grad_(False), Mean())
