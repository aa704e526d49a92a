"""Denormals are flushed while training, and only then."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import chainfree as cf
from chainfree.engine import Callback, Engine


def _survives() -> bool:
    return bool(torch.full((3,), 2e-40).mul(0.5).max() > 0)


@pytest.mark.skipif(not torch.set_flush_denormal(False) and not torch.set_flush_denormal(True), reason="no such mode")
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_the_mode_is_put_back(before: bool, fails: bool, rows: Tensor) -> None:
    seen = []

    class Look(Callback):
        def on_step(self, engine: Engine) -> None:
            seen.append(_survives())
            if fails:
                raise OSError("disk")

    engine = Engine(cf.energies.MLP(dim=2, width=4), cf.losses.EnergyDiscrepancy(), callbacks=[Look()])
    torch.set_flush_denormal(before)
    try:
        if fails:
            with pytest.raises(OSError, match="disk"):
                engine.fit(cf.batches(rows, size=16), steps=1)
        else:
            engine.fit(cf.batches(rows, size=16), steps=1)
        assert seen == [False]
        assert _survives() is not before
    finally:
        torch.set_flush_denormal(False)
