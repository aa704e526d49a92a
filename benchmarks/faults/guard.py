"""Three ways of diverging."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.faults.settings import SEED
from chainfree.batches import batches
from chainfree.datasets import toy_density
from chainfree.energies import MLP
from chainfree.engine import (
    Callback,
    Constant,
    Engine,
    Guard,
    OptimizerSettings,
    TrainingDivergedError,
    latest_checkpoint,
)
from chainfree.losses import EnergyDiscrepancy
from chainfree.typing import Batch


class _Breaks(nn.Module):
    """A network whose energies are NaN from the given step on, whatever is restored."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.network, self.step, self.calls = MLP(2, width=16, depth=1), step, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1  # the loss evaluates the energy once a step
        values: Tensor = self.network(x)
        return values * float("nan") if self.calls > self.step else values


class _OneInfinity:
    """Draws of a normal with an infinity in one batch."""

    def __init__(self, step: int) -> None:
        self.step, self.position = step, 0

    def __next__(self) -> Batch:
        x = torch.randn(32, 2, generator=torch.Generator().manual_seed(self.position))
        if self.position == self.step:
            x[7, 1] = torch.inf
        self.position += 1
        return Batch(x)

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.position = state["position"]


class _Restarts(Callback):
    """Counts how often the guard went back."""

    def __init__(self) -> None:
        self.count = 0

    def on_event(self, engine: Engine, kind: str, message: str) -> None:
        self.count += kind == "guard"


def guard(folder: Path) -> dict[str, Any]:
    """Three ways of diverging: how each ended, and what is on disk then."""
    torch.manual_seed(SEED)
    rows = batches(toy_density("25gaussians").sample(1000, generator=torch.Generator().manual_seed(0)), size=32)
    fast = OptimizerSettings(lr=1e3)
    return {
        "learning_rate_1e3": _diverging(folder / "lr", lambda: MLP(2, width=16, depth=2), rows, fast),
        "nan_from_step_100": _diverging(folder / "nan", lambda: _Breaks(100), rows, OptimizerSettings()),
        "infinity_in_a_batch": _diverging(
            folder / "inf", lambda: MLP(2, width=16, depth=1), _OneInfinity(150), OptimizerSettings()
        ),
    }


def _diverging(folder: Path, make: Callable[[], nn.Module], data: Any, optimizer: OptimizerSettings) -> dict[str, Any]:
    watched = _Restarts()

    def engine() -> Engine:
        return Engine(
            make(),
            EnergyDiscrepancy(),
            optimizer=optimizer,
            schedule=Constant(),
            guard=Guard(every=20),
            checkpoints=folder,
            checkpoint_every=50,
            callbacks=[watched],
        )

    trained = engine()
    try:
        ended = trained.fit(data, steps=400).stopped
    except TrainingDivergedError as error:
        ended = f"diverged: {error}"
    loaded = engine()
    loaded.resume(latest_checkpoint(folder))
    state = torch.load(latest_checkpoint(folder), weights_only=True)
    return {
        "ended": ended,
        "restarts": watched.count,
        "last_good_step": trained.step,
        "checkpoint_step": loaded.step,
        "checkpoint_loads": True,  # or resume() above would have raised
        "checkpoint_finite": _all_finite(state),
        "weights_finite": all(bool(torch.isfinite(p).all()) for p in trained.energy.parameters()),
    }


def _all_finite(state: Any) -> bool:
    if isinstance(state, Tensor):
        return not state.is_floating_point() or bool(torch.isfinite(state).all())
    if isinstance(state, Mapping):
        return all(_all_finite(value) for value in state.values())
    if isinstance(state, list | tuple):
        return all(_all_finite(value) for value in state)
    return not isinstance(state, float) or bool(np.isfinite(state))
