"""The learned Stein discrepancy as a game."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import chainfree as cf
from chainfree.energies import Gaussian
from chainfree.objectives import LearnedStein
from chainfree.typing import Batch


class Normal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(()))
        self.log_precision = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * (x[:, 0] - self.mean).square() * self.log_precision.exp()


def test_it_finds_the_normal_of_the_data() -> None:
    data = 2 + 0.5 * torch.randn(4000, 1, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(0)
    energy = Normal()
    objective = LearnedStein(nn.Linear(1, 1))  # scores of normals are affine, so no better critic is needed
    engine = cf.Engine(energy, objective, seed=0, optimizer=cf.engine.OptimizerSettings(lr=0.03), ema=0.99)
    engine.fit(cf.batches(data, size=512), steps=1500)
    found = engine.averaged_energy()
    assert float(found.mean) == pytest.approx(2, abs=0.05)
    assert float(torch.exp(-0.5 * found.log_precision)) == pytest.approx(0.5, abs=0.03)


def test_the_critic_climbs_to_the_fisher_divergence() -> None:
    """On N(0, 1) against E = x^2, whose score is off by x: the discrepancy's maximum is E[x^2] / 4 lambda."""
    data = torch.randn(100_000, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    energy = Gaussian(torch.zeros(1, dtype=torch.float64), 0.5 * torch.eye(1, dtype=torch.float64))
    critic = nn.Linear(1, 1, dtype=torch.float64)
    objective = LearnedStein(critic, penalty=0.8, critic_steps=1)
    optimizer = torch.optim.SGD(critic.parameters(), lr=0.3)
    for step in range(60):
        update = next(iter(objective.updates(energy, Batch(data), step, torch.Generator().manual_seed(step))))
        assert update.player == "critic"
        optimizer.zero_grad()
        update.loss.backward()
        optimizer.step()
    assert float(update.metrics["discrepancy"]) == pytest.approx(1 / (4 * 0.8), rel=0.03)
    assert float(critic.weight) == pytest.approx(-1 / (2 * 0.8), rel=0.03)


@pytest.mark.parametrize("options", [{"penalty": 0.0}, {"critic_steps": 0}, {"probes": 0}])
def test_settings_are_checked(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        LearnedStein(nn.Linear(1, 1), **options)  # type: ignore[arg-type]
