"""Images of two kinds, small enough to train on in seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from chainfree.datasets import Images
from chainfree.engine import Engine
from chainfree.experiments.latent import anomaly, comparison, runs


@pytest.fixture
def devices_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[ModuleType], list[torch.device]]:
    """From a module to the devices that its engines will have been asked for.

    There is one kind of device on every machine; its name with a number tells what was asked for.
    """

    def watch(module: ModuleType) -> list[torch.device]:
        asked: list[torch.device] = []

        def engine(*parts: Any, device: torch.device, **settings: Any) -> Engine:
            asked.append(device)
            return Engine(*parts, device=device, **settings)

        monkeypatch.setattr(module, "Engine", engine)
        return asked

    return watch


def _halves(split: str) -> Images:
    source = torch.Generator().manual_seed(len(split))
    y = torch.arange(120) % 2
    x = torch.randint(0, 60, (120, 1, 8, 8), generator=source)
    x[y == 0, :, :, :4] += 150
    x[y == 1, :, :, 4:] += 150
    return Images(x.to(torch.uint8), y)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # where runs/ is made
    monkeypatch.setitem(runs.LATENT_DATA, "halves", _halves)
    monkeypatch.setattr(comparison, "_FOR_BALLS", 50)
    monkeypatch.setattr(comparison, "_TURNS", 2)
    # whatever the machine is doing
    monkeypatch.setattr(runs, "steps_within", lambda *args, seconds, probe: round(20 * seconds))
    monkeypatch.setattr(anomaly, "steps_within", lambda *args, seconds, probe: round(20 * seconds))
    monkeypatch.setattr(runs, "_rehearsal", lambda *args: 0.1)
