"""Persistent contrastive divergence: the chains go on, start anew where asked, and follow the likelihood."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import chainfree as cf
from chainfree.energies import Gaussian
from chainfree.objectives import PersistentContrastiveDivergence
from chainfree.samplers.chain import Chain
from chainfree.samplers.replay import ReplayBuffer
from chainfree.typing import Batch


class Normal(nn.Module):
    """E = (x - m)^2 exp(p) / 2."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(()))
        self.log_precision = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * (x[:, 0] - self.mean).square() * self.log_precision.exp()


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_it_finds_the_most_likely_normal() -> None:
    data = 2 + 0.5 * torch.randn(4000, 1, generator=_seeded(1))
    energy = Normal()
    objective = PersistentContrastiveDivergence(
        ReplayBuffer(torch.randn(1000, 1, generator=_seeded(2))), chain=Chain(steps=5, step_size=0.3, adjusted=True)
    )
    engine = cf.Engine(energy, objective, seed=0, optimizer=cf.engine.OptimizerSettings(lr=0.02), ema=0.99)
    engine.fit(cf.batches(data, size=256), steps=600)
    found = engine.averaged_energy()
    assert float(found.mean) == pytest.approx(2, abs=0.05)
    assert float(torch.exp(-0.5 * found.log_precision)) == pytest.approx(0.5, abs=0.03)
    assert float(objective.buffer.chains.mean()) == pytest.approx(2, abs=0.15)  # the chains came along


def test_a_round_moves_just_the_chains_it_draws() -> None:
    start = torch.randn(50, 2, generator=_seeded(1))
    objective = PersistentContrastiveDivergence(ReplayBuffer(start), chain=Chain(steps=1), samples=8)
    list(objective.updates(Gaussian(torch.zeros(2)).requires_grad_(), Batch(torch.zeros(3, 2)), 0, _seeded()))
    moved = (objective.buffer.chains != start).any(1)
    assert int(moved.sum()) == 8


def test_chains_start_anew_at_the_given_rate() -> None:
    far = Gaussian(torch.tensor([100.0]), 1e-4 * torch.eye(1))
    objective = PersistentContrastiveDivergence(
        ReplayBuffer(torch.zeros(20_000, 1)), chain=Chain(steps=1), initial=far, restarts=0.2, samples=20_000
    )
    list(objective.updates(lambda x: 0.001 * x.sum(1), Batch(torch.zeros(3, 1)), 0, _seeded()))
    assert float((objective.buffer.chains > 50).float().mean()) == pytest.approx(0.2, abs=0.012)


def test_squared_energies_are_added_at_data_and_chains() -> None:
    energy, x = Gaussian(torch.zeros(2)), torch.randn(6, 2, generator=_seeded(3))
    losses = []
    for square in (0.0, 0.3):
        objective = PersistentContrastiveDivergence(
            ReplayBuffer(torch.randn(50, 2, generator=_seeded(1))), chain=Chain(steps=2), energy_square=square
        )
        losses += [update.loss for update in objective.updates(energy, Batch(x), 0, _seeded())]
        ends = objective.buffer.chains
    moved = ends[(ends != torch.randn(50, 2, generator=_seeded(1))).any(1)]
    expected = 0.3 * (energy(x).square().mean() + energy(moved).square().mean())
    torch.testing.assert_close(losses[1] - losses[0], expected)


def test_chains_that_their_steps_throw_uphill_are_divergence() -> None:
    """An unadjusted step h on curvature k multiplies by 1 - h k / 2."""
    data = torch.randn(200, 1, generator=_seeded(1))

    def objective(step_size: float) -> PersistentContrastiveDivergence:
        start = ReplayBuffer(torch.randn(200, 1, generator=_seeded(2)))
        return PersistentContrastiveDivergence(start, chain=Chain(steps=8, step_size=step_size))

    for step_size, throws in ((0.1, False), (5.0, True)):
        (update,) = objective(step_size).updates(Normal(), Batch(data), 0, _seeded())
        assert (float(update.watched["chains_above"]) > update.limits["chains_above"]) == throws
    assert cf.Engine(Normal(), objective(0.1), seed=0).fit(cf.batches(data, size=100), steps=2).steps == 2
    with pytest.raises(cf.engine.TrainingDivergedError, match="chains_above of player 'energy'"):
        cf.Engine(Normal(), objective(5.0), seed=0).fit(cf.batches(data, size=100), steps=2)


def test_a_few_rows_or_chains_far_out_are_none() -> None:
    energy = Gaussian(torch.zeros(1), 1e-4 * torch.eye(1)).requires_grad_()
    near = 0.01 * torch.randn(100, 1, generator=_seeded(1))
    far = near.clone()
    far[:5] = 1.0  # 5000 nats each
    for data, chains in ((near, far), (far, near), (near, near)):
        objective = PersistentContrastiveDivergence(ReplayBuffer(chains), chain=Chain(steps=1, step_size=1e-6))
        (update,) = objective.updates(energy, Batch(data), 0, _seeded())
        assert 0 <= float(update.metrics["chains_above"]) < 1
    below = PersistentContrastiveDivergence(ReplayBuffer(near), chain=Chain(steps=1, step_size=1e-6), runaway=3.0)
    (update,) = below.updates(energy, Batch(far[:5]), 0, _seeded())
    assert float(update.metrics["chains_above"]) == 0 and update.limits == {"chains_above": 3.0}


def test_settings_are_checked() -> None:
    buffer = ReplayBuffer(torch.zeros(5, 1))
    with pytest.raises(ValueError, match=r"restarts=0\.1, but no density says where"):
        PersistentContrastiveDivergence(buffer, restarts=0.1)
    with pytest.raises(ValueError, match="restarts"):
        PersistentContrastiveDivergence(buffer, restarts=1.0, initial=Gaussian([0.0]))
    with pytest.raises(ValueError, match="samples"):
        PersistentContrastiveDivergence(buffer, samples=0)
    with pytest.raises(ValueError, match="energy_square"):
        PersistentContrastiveDivergence(buffer, energy_square=-1.0)
    with pytest.raises(ValueError, match="runaway"):
        PersistentContrastiveDivergence(buffer, runaway=0.0)
