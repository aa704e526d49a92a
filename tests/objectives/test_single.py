"""A loss as an objective: the densities in its settings are a part of the run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import chainfree as cf
from chainfree.energies import MLP, Gaussian
from chainfree.engine import Engine, latest_checkpoint
from chainfree.losses import ConditionalNCE, EnergyDiscrepancy, ShortRun
from chainfree.objectives import Single
from chainfree.perturbations import JumpPairs
from chainfree.typing import Loss

MAKE = {
    "reference": lambda density: EnergyDiscrepancy(reference=density),
    "initial": lambda density: ShortRun(initial=density, chain=cf.samplers.Chain(steps=1)),
    "pairs_jump": lambda density: ConditionalNCE(pairs=JumpPairs(jump=density)),
}


@pytest.fixture(params=MAKE, ids=str)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _engine(loss: Loss, folder: Path | None = None) -> Engine:
    torch.manual_seed(0)
    return Engine(MLP(2, width=8, depth=1).double(), loss, seed=0, checkpoints=folder)


def test_it_moves_with_the_objective_and_is_trained_in_double_precision(name: str) -> None:
    density = Gaussian(torch.ones(2, dtype=torch.float64))
    objective = Single(MAKE[name](density))
    assert set(objective.state_dict()) == {f"held.{name}.{key}" for key in density.state_dict()}
    assert objective.to("meta").held[name].mean.device.type == "meta" and density.mean.device.type == "meta"
    x = torch.randn(32, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    loss = MAKE[name](Gaussian(torch.ones(2, dtype=torch.float64)))
    assert _engine(loss).fit(cf.batches(x, size=8), steps=2).stopped == "completed"


def test_a_resumed_run_has_the_density_it_was_stopped_with(name: str, tmp_path: Path) -> None:
    x = torch.randn(32, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    first = Gaussian(torch.ones(2, dtype=torch.float64))
    _engine(MAKE[name](first), tmp_path).fit(cf.batches(x, size=8), steps=2)
    refitted = Gaussian(torch.full((2,), 5.0, dtype=torch.float64))
    engine = _engine(MAKE[name](refitted))
    engine.resume(latest_checkpoint(tmp_path))
    assert torch.equal(refitted.mean, first.mean)


def test_held_densities_are_not_trained() -> None:
    class Learned(Gaussian):
        def __init__(self) -> None:
            super().__init__(torch.zeros(2))
            self.weight = nn.Parameter(torch.ones(()))

    density = Learned()
    objective = Single(EnergyDiscrepancy(reference=density))
    assert not density.weight.requires_grad
    energy = MLP(2)
    assert all(p is not density.weight for p in objective.players(energy)["energy"])


def test_a_loss_with_a_state_of_its_own_is_refused() -> None:
    class Stateful(nn.Linear):
        pass

    with pytest.raises(TypeError, match="which a single player would neither train nor save"):
        Single(Stateful(1, 1))  # type: ignore[arg-type]
