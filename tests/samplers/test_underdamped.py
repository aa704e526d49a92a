"""Kinetic Langevin steps: exact with the correction, with the known bias without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from chainfree.energies import Banana, GaussianMixture
from chainfree.samplers import mala, run, underdamped


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normal(x: Tensor) -> Tensor:
    return -0.5 * x.square().sum(1)


def _minus(energy: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: -energy(x)


@pytest.mark.parametrize("friction", [0.2, 1.0, 20.0])
def test_unadjusted_it_keeps_the_wrong_variance_that_theory_gives(friction: float) -> None:
    h = 1.2
    variance = 1 / (1 - h**2 / 4)
    x = variance**0.5 * torch.randn(100_000, 1, dtype=torch.float64, generator=_seeded(1))
    generator = _seeded(2)
    state = underdamped.init(_normal, x, generator=generator)
    for _ in range(4):
        state, info = underdamped.step(
            _normal, state, step_size=h, friction=friction, adjusted=False, generator=generator
        )
    assert state.x.var().item() == pytest.approx(variance, rel=0.018)
    assert state.momentum.var().item() == pytest.approx(1.0, rel=0.018)
    assert abs(float((state.x * state.momentum).mean())) < 0.02
    assert bool(info.accepted.all()) and info.acceptance.mean().item() < 0.95


@pytest.mark.parametrize("options", [{}, {"leapfrog": 3}, {"scales": torch.tensor([1.5], dtype=torch.float64)}])
def test_adjusted_position_and_momentum_stay_as_they_are(options: dict[str, Any]) -> None:
    target = GaussianMixture(torch.tensor([[-0.8], [1.2]], dtype=torch.float64), 0.3, weights=[0.3, 0.7])
    generator = _seeded()
    x = target.sample(100_000, generator=generator)
    state = underdamped.init(_minus(target), x, generator=generator)
    rejected = 0.0
    for _ in range(4):
        state, info = underdamped.step(
            _minus(target), state, step_size=0.7, friction=0.5, generator=generator, **options
        )
        rejected += 1 - info.accepted.double().mean().item()
    assert rejected > 0.1
    exact = target.sample(100_000, generator=generator)
    for power in (1, 2, 3):
        ours, truth = state.x.pow(power), exact.pow(power)
        error = ((ours.var() + truth.var()) / len(exact)) ** 0.5
        assert abs(float((ours.mean() - truth.mean()) / error)) < 4
        error = (state.momentum.pow(power).var() / len(exact)) ** 0.5
        assert abs(float((state.momentum.pow(power).mean() - float(power == 2)) / error)) < 4
    # a momentum that knew of the position would not be stationary
    product = (state.x * state.momentum).flatten()
    assert abs(float(product.mean() / (product.std() / len(product) ** 0.5))) < 4


def test_a_rejection_turns_the_chain_round() -> None:
    target = _minus(Banana(2).double())
    x = Banana(2).double().sample(500, generator=_seeded())
    before = underdamped.init(target, x, generator=_seeded(1))
    # with next to no friction the momentum is not refreshed
    after, info = underdamped.step(target, before, step_size=0.6, friction=1e-12, generator=_seeded(2))
    assert 50 < int(info.accepted.sum()) < 450
    lost = ~info.accepted
    torch.testing.assert_close(after.momentum[lost], -before.momentum[lost], rtol=0, atol=1e-5)
    assert torch.equal(after.x[lost], x[lost])
    # and turned round once more an accepted step goes back
    turned = after._replace(momentum=-after.momentum)
    again, info = underdamped.step(target, turned, step_size=0.6, friction=1e-12, generator=_seeded(3))
    both = info.accepted & ~lost
    torch.testing.assert_close(again.x[both], x[both], rtol=0, atol=1e-5)
    assert int(both.sum()) > 20


def test_with_boundless_friction_it_is_mala() -> None:
    target = _minus(Banana(2).double())
    x = Banana(2).double().sample(100, generator=_seeded())
    state = underdamped.init(target, x, generator=_seeded(7))
    ours, info = underdamped.step(target, state, step_size=0.5, friction=1e6, generator=_seeded(1))
    theirs, verdict = mala.step(target, mala.init(target, x), step_size=0.25, generator=_seeded(1))
    torch.testing.assert_close(ours.x, theirs.x)
    torch.testing.assert_close(info.acceptance, verdict.acceptance)


def test_scales_are_a_change_of_units() -> None:
    scales = torch.tensor([0.1, 7.0], dtype=torch.float64)
    target = _minus(Banana(2).double())
    stretched = lambda v: target(v / scales)  # noqa: E731
    x = Banana(2).double().sample(100, generator=_seeded())
    plain = underdamped.init(target, x, generator=_seeded())
    there = underdamped.init(stretched, x * scales, generator=_seeded())
    for seed in range(3):
        plain, _ = underdamped.step(target, plain, step_size=0.3, generator=_seeded(seed))
        there, _ = underdamped.step(stretched, there, step_size=0.3, scales=scales, generator=_seeded(seed))
        torch.testing.assert_close(there.x, plain.x * scales)
        torch.testing.assert_close(there.momentum, plain.momentum)


def test_quantiles_of_the_banana() -> None:
    target = Banana(2, scale=1.0, width=0.7).double()
    x = torch.randn(600, 2, dtype=torch.float64, generator=_seeded())
    record = run(
        underdamped.kernel(_minus(target)), x, draws=200, warmup=300, step_size=0.1, thin=2, generator=_seeded(1)
    )
    assert record.acceptance.item() == pytest.approx(underdamped.TARGET, abs=0.05)
    exact = target.sample(200_000, generator=_seeded(2))
    for q in (0.05, 0.25, 0.5, 0.75, 0.95):
        below = (record.draws < exact.quantile(q, dim=0)).double().mean(0)
        error = (below.var(0) / len(x) + q * (1 - q) / len(exact)).sqrt()
        assert ((below.mean(0) - q) / error).abs().max().item() < 4


def test_lost_chains_are_flagged_and_only_kept_away_if_adjusted() -> None:
    x = torch.full((5, 2), 30.0)
    state = underdamped.init(_normal, x, generator=_seeded())
    stayed, info = underdamped.step(_normal, state, step_size=100.0, leapfrog=20, generator=_seeded())
    assert bool(info.diverging.all()) and torch.equal(stayed.x, x)
    gone, info = underdamped.step(_normal, state, step_size=100.0, leapfrog=20, adjusted=False, generator=_seeded())
    assert bool(info.diverging.all()) and not bool(torch.isfinite(gone.log_density).any())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"step_size": 0.0}, "step_size must be a finite number above 0"),
        ({"friction": 0.0}, "friction must be a finite number above 0, got 0.0"),
        ({"leapfrog": 0}, "leapfrog must be a whole number above 0, got 0"),
        ({"scales": torch.ones(1)}, r"scales must have the rows' shape \(2,\)"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], words: str) -> None:
    state = underdamped.init(_normal, torch.zeros(3, 2))
    with pytest.raises(ValueError, match=words):
        underdamped.step(_normal, state, **{"step_size": 0.1, **options})
