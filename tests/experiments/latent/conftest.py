"""Images of two kinds, small enough to train on in seconds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from chainfree.datasets import Images
from chainfree.experiments.latent import anomaly, comparison, runs


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
