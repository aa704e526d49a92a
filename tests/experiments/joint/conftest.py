"""Two tasks whose classes are known, under the names that experiments look them up by."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from chainfree.experiments.joint import tasks
from chainfree.experiments.joint.tasks import Task


def _two_normals(judged_on: str) -> Task:
    """Means 3 apart along the first axis: the best accuracy is Phi(1.5)."""
    source = torch.Generator().manual_seed(0 if judged_on == "validation" else 1)
    y = torch.arange(1200) % 2
    x = torch.randn(1200, 3, generator=source)
    x[:, 0] += 3.0 * y
    return Task(x[:800], y[:800], x[800:], y[800:], 2)


def _images(judged_on: str) -> Task:
    """Bright left halves and bright right halves."""
    source = torch.Generator().manual_seed(0 if judged_on == "validation" else 1)
    y = torch.arange(300) % 2
    x = 0.2 * torch.randn(300, 1, 8, 8, generator=source) - 0.5
    left, right = x[:, 0, :, :4], x[:, 0, :, 4:]
    left[y == 0] += 1
    right[y == 1] += 1
    return Task(x[:200], y[:200], x[200:], y[200:], 2)


@pytest.fixture(autouse=True)
def known_tasks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # where runs/ is made
    monkeypatch.setitem(tasks.TASKS, "normals", _two_normals)
    monkeypatch.setitem(tasks.TASKS, "halves", _images)
    monkeypatch.setitem(tasks.IMAGES, "halves", (1, 8, 8))
