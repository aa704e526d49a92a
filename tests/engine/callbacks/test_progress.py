"""The progress bar, as it ends up in a log file."""

from __future__ import annotations

import math
import sys

import pytest
import torch
from torch import Tensor, nn

import chainfree as cf
from chainfree.engine import Engine, Guard, Progress


def _fit(rows: Tensor, energy: nn.Module | None = None, *, show: tuple[str, ...] = ("loss", "lr")) -> None:
    torch.manual_seed(0)
    engine = Engine(
        cf.energies.MLP(dim=2, width=4) if energy is None else energy,
        cf.losses.EnergyDiscrepancy(), callbacks=[Progress(show=show)], log_every=10, guard=Guard(every=10),
    )  # fmt: skip
    engine.fit(cf.batches(rows, size=16), steps=40)


def test_it_works_without_a_terminal(rows: Tensor, capsys: pytest.CaptureFixture[str]) -> None:
    assert not sys.stderr.isatty()
    _fit(rows)
    out, err = capsys.readouterr()
    last = err.replace("\r", "\n").strip().splitlines()[-1]
    assert out == ""
    assert "40/40" in last and "training: 100%" in last and "loss=" in last and "lr=" in last
    assert "energy_data=" not in last
    assert last.isascii() and "\x1b" not in err and len(last) <= 100


def test_only_what_is_asked_for_is_shown(rows: Tensor, capsys: pytest.CaptureFixture[str]) -> None:
    _fit(rows, show=("energy_data", "not there"))
    err = capsys.readouterr().err
    assert "energy_data=" in err and "loss=" not in err and "not there" not in err


def test_it_follows_the_guard_back_and_prints_events(rows: Tensor, capsys: pytest.CaptureFixture[str]) -> None:
    class Once(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.called = cf.energies.MLP(dim=2, width=4), 0

        def forward(self, x: Tensor) -> Tensor:
            self.called += 1
            values: Tensor = self.inner(x)
            return values * math.nan if self.called == 28 else values

    _fit(rows, Once())
    err = capsys.readouterr().err
    assert "guard: loss of player 'energy' was nan at step 27; back to step 20" in err
    assert "40/40" in err.replace("\r", "\n").strip().splitlines()[-1]
    assert "47/40" not in err


def test_a_second_fit_opens_at_the_step_reached(rows: Tensor, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    loss = cf.losses.EnergyDiscrepancy()
    engine, data = Engine(cf.energies.MLP(dim=2, width=4), loss, callbacks=[Progress()]), cf.batches(rows, size=16)
    engine.fit(data, steps=30)
    capsys.readouterr()
    engine.fit(data, steps=60)
    err = capsys.readouterr().err.replace("\r", "\n").strip().splitlines()
    assert "30/60" in err[0] and "60/60" in err[-1]
