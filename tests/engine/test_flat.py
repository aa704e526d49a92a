"""Parameters in one buffer: modules must not notice, and nothing may be trained that no module reads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import Parameter

import chainfree as cf
from chainfree.engine import Engine, load_weights, save_weights
from chainfree.engine.flat import FlatParameters

LOSS = cf.losses.EnergyDiscrepancy()


def _mixed() -> list[Parameter]:
    """Several shapes, a scalar, two dtypes, one not contiguous."""
    shapes = [(2, 3), (), (5,), (1, 4, 2)]
    parameters = [Parameter(torch.randn(shape)) for shape in shapes]
    parameters.insert(2, Parameter(torch.randn(3, dtype=torch.float64)))
    return [*parameters, Parameter(torch.randn(4, 3).t())]


def test_values_stay_and_buffers_hold_them() -> None:
    parameters = _mixed()
    before = [p.detach().clone() for p in parameters]
    flat = FlatParameters(parameters)
    assert all(torch.equal(a, b) for a, b in zip(parameters, before, strict=True))
    assert sorted(buffer.numel() for buffer in flat.buffers) == [3, 6 + 1 + 5 + 8 + 12]
    with torch.no_grad():
        for buffer in flat.buffers:
            buffer.add_(1)
    assert all(torch.equal(a, b + 1) for a, b in zip(parameters, before, strict=True))


def test_gradients_are_gathered_where_their_parameters_are() -> None:
    parameters = _mixed()
    flat = FlatParameters(parameters)
    reached = parameters[:-2]
    sum((p * (n + 1)).sum().double() for n, p in enumerate(reached)).backward()  # type: ignore[union-attr]
    flat.gather_gradients()
    found = flat.unflatten([buffer.grad for buffer in flat.buffers])  # type: ignore[misc]
    for n, parameter in enumerate(parameters):
        expected = float(n + 1) if n < len(reached) else 0.0
        assert torch.equal(found[id(parameter)], torch.full_like(parameter, expected))
    flat.clear_gradients()
    assert all(p.grad is None for p in parameters)


def test_two_engines_may_take_turns_on_one_energy(rows: Tensor) -> None:
    """The second takes the parameters away from the first one's buffer."""
    energy = cf.energies.MLP(dim=2, width=8)
    first, second = Engine(energy, LOSS), Engine(energy, LOSS, seed=1)
    for engine, steps in [(first, 5), (second, 5), (first, 10), (second, 10)]:
        before = [p.detach().clone() for p in energy.parameters()]
        engine.fit(cf.batches(rows, size=16), steps=steps)
        assert not any(torch.equal(a, b) for a, b in zip(energy.parameters(), before, strict=True))


def test_a_second_engine_starts_from_the_weights_there_are(rows: Tensor) -> None:
    energy, twin = cf.energies.MLP(dim=2, width=8), cf.energies.MLP(dim=2, width=8)
    Engine(energy, LOSS).fit(cf.batches(rows, size=16), steps=10)
    twin.load_state_dict(energy.state_dict())
    for module in (energy, twin):
        Engine(module, LOSS, seed=3).fit(cf.batches(rows, size=16), steps=10)
    assert all(torch.equal(a, b) for a, b in zip(energy.parameters(), twin.parameters(), strict=True))


def test_weights_that_were_assigned_are_trained(rows: Tensor) -> None:
    energy = cf.energies.MLP(dim=2, width=8)
    engine = Engine(energy, LOSS, ema=None)
    for parameter in energy.parameters():
        parameter.data = torch.full_like(parameter, 0.125)
    before = [p.detach().clone() for p in energy.parameters()]
    engine.fit(cf.batches(rows, size=16), steps=1)
    for parameter, old in zip(energy.parameters(), before, strict=True):
        assert 0 < (parameter - old).abs().max() <= 1.01e-3  # one step of Adam, from the assigned values


def test_a_module_that_changed_its_type_is_refused(rows: Tensor) -> None:
    energy = cf.energies.MLP(dim=2, width=8)
    engine = Engine(energy, LOSS)
    energy.double()
    with pytest.raises(ValueError, match=r"torch\.float32 on cpu and is now torch\.float64 on cpu; move"):
        engine.fit(cf.batches(rows, size=16), steps=1)


def test_trained_weights_save_one_by_one(rows: Tensor, tmp_path: Path) -> None:
    """safetensors refuses tensors that overlap in memory."""
    energy = cf.energies.MLP(dim=2, width=8)
    engine = Engine(energy, LOSS)
    engine.fit(cf.batches(rows, size=16), steps=3)
    for name, module in [("raw", energy), ("averaged", engine.averaged_energy())]:
        other: nn.Module = cf.energies.MLP(dim=2, width=8)
        save_weights(tmp_path / name, module)
        load_weights(tmp_path / name, other)
        assert all(torch.equal(a, b) for a, b in zip(other.parameters(), module.parameters(), strict=True))
