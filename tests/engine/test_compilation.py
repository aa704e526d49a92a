"""``compile=True``: nearly the same numbers, and a fallback that says so."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import chainfree as cf
from chainfree.engine import Callback, Engine

LOSS = cf.losses.EnergyDiscrepancy()


class Events(Callback):
    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    def on_event(self, engine: Engine, kind: str, message: str) -> None:
        self.events.append((kind, message))


class Bowl(nn.Module):
    """Small, so that it compiles quickly."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 3, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).square().sum(-1)


def _fit(energy: nn.Module, rows: Tensor, *, compile: bool, steps: int = 20, **options: Any) -> list[tuple[str, str]]:
    events = Events()
    report = Engine(energy, LOSS, compile=compile, callbacks=[events], **options).fit(
        cf.batches(rows, size=16), steps=steps
    )
    assert report.steps == steps
    return events.events


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_a_compiled_energy_trains_like_an_eager_one(rows: Tensor) -> None:
    trained = []
    for compile in (False, True):
        torch.manual_seed(0)
        energy = Bowl()
        assert _fit(energy, rows.double(), compile=compile) == []
        trained.append(list(energy.parameters()))
    for eager, compiled in zip(*trained, strict=True):
        torch.testing.assert_close(compiled, eager, rtol=1e-9, atol=1e-9)


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_an_energy_of_latents_is_compiled_for_them(rows: Tensor) -> None:
    torch.manual_seed(0)
    decoder = cf.generators.MLPGenerator(3, 2, width=4)  # three latents, rows of two
    objective = cf.objectives.LatentPrior(decoder, cf.latent.LangevinPosterior(steps=2), LOSS)
    energy, events = cf.latent.latent_prior(cf.energies.MLP(3, width=4), 3), Events()
    Engine(energy, objective, compile=True, callbacks=[events]).fit(cf.batches(rows, size=16), steps=2)
    assert events.events == []


def _failing(error: Exception) -> Callable[..., Any]:
    def compile(module: nn.Module, **options: Any) -> Callable[[Tensor], Tensor]:
        def compiled(x: Tensor) -> Tensor:
            raise error

        return compiled

    return compile


@pytest.mark.parametrize(
    "error", [RuntimeError("no C++ compiler\nlong log"), ValueError(""), OSError("g++: not found")]
)
def test_a_compiler_that_fails_does_not_take_the_run_with_it(
    error: Exception, rows: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    eager, fallen_back = cf.energies.MLP(dim=2, width=4), cf.energies.MLP(dim=2, width=4)
    fallen_back.load_state_dict(eager.state_dict())
    _fit(eager, rows, compile=False)
    monkeypatch.setattr(torch, "compile", _failing(error))
    ((kind, message),) = _fit(fallen_back, rows, compile=True)
    reason = str(error).splitlines()[0] if str(error) else "ValueError"
    assert kind == "compile" and f"({reason})" in message and "eager" in message and "\n" not in message
    assert all(torch.equal(a, b) for a, b in zip(eager.parameters(), fallen_back.parameters(), strict=True))


def test_an_exception_of_the_backend_falls_back(rows: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real one: the backend itself raises, and torch wraps it."""
    original = torch.compile

    def backend(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("the backend is out of order")

    monkeypatch.setattr(torch, "compile", lambda module, **options: original(module, backend=backend))
    ((kind, message),) = _fit(cf.energies.MLP(dim=2, width=4), rows, compile=True)
    assert kind == "compile" and "out of order" in message


def test_a_broken_energy_raises_its_own_error(rows: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(cf.energies.MLP):
        def forward(self, x: Tensor) -> Tensor:
            raise LookupError("my own mistake")

    monkeypatch.setattr(torch, "compile", lambda module, **options: pytest.fail("the compiler was asked"))
    with pytest.raises(LookupError, match="my own mistake"):
        _fit(Broken(dim=2, width=4), rows, compile=True)


def test_an_energy_of_the_wrong_shape_is_refused_as_in_eager_mode(rows: Tensor) -> None:
    with pytest.raises(cf.ContractError, match="squeeze the last axis"):
        _fit(nn.Linear(2, 1), rows, compile=True)


@pytest.mark.parametrize("fails", [True, False])
def test_trying_the_compiler_leaves_no_trace(fails: bool, rows: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in the data, nor in buffers (spectral norms iterate in every forward pass), nor in gradients."""
    monkeypatch.setattr(torch, "compile", _failing(RuntimeError("no")) if fails else lambda module, **options: module)
    trained = []
    for compile in (False, True):
        torch.manual_seed(0)
        energy = cf.energies.MLP(dim=2, width=4, spectral_norm=True)
        _fit(energy, rows, compile=compile, ema=None)
        trained.append(energy.state_dict())
    for name, value in trained[0].items():
        assert torch.equal(trained[1][name], value), name


def test_the_compiler_is_tried_at_the_precision_of_the_training(rows: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class Spy(cf.energies.MLP):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(self.layers[0](x).dtype)
            return super().forward(x)

    monkeypatch.setattr(torch, "compile", lambda module, **options: module)
    _fit(Spy(dim=2, width=4), rows, compile=True, precision="bf16", steps=1)
    assert len(seen) == 3 and set(seen) == {torch.bfloat16}
