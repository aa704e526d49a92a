"""MALA against what a Metropolis-Hastings kernel must keep."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from chainfree.checks import ContractError
from chainfree.energies import Gaussian, GaussianMixture
from chainfree.samplers import langevin, mala
from chainfree.samplers.adaptation import adapt, start_adaptation


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _two_modes() -> GaussianMixture:
    return GaussianMixture(torch.tensor([[-0.8], [1.2]], dtype=torch.float64), 0.3, weights=[0.3, 0.7])


def _log_density(energy: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: -energy(x)


def _asymmetry(x: Tensor, y: Tensor) -> float:
    """How far pairs are from exchangeable, in standard errors: in E[y x^2 - x y^2] = 0."""
    values = (y * x.square() - x * y.square()).flatten()
    return float(values.mean() / (values.std() / len(values) ** 0.5))


def test_stationary_draws_and_their_successors_are_exchangeable() -> None:
    target = _two_modes()
    x = target.sample(200_000, generator=_seeded())
    state, info = mala.step(
        _log_density(target), mala.init(_log_density(target), x), step_size=1.0, generator=_seeded(1)
    )
    assert 0.3 < info.acceptance.mean().item() < 0.9
    assert abs(_asymmetry(x, state.x)) < 4
    assert state.x.mean().item() == pytest.approx(0.6, abs=0.01)
    assert state.x.var().item() == pytest.approx(0.3 + 0.3 * 0.7 * 4, rel=0.01)
    # the same test convicts the steps without correction
    unadjusted = langevin(target, x, steps=1, step_size=1.0, generator=_seeded(1))
    assert abs(_asymmetry(x, unadjusted)) > 10


def test_acceptance_is_the_metropolis_hastings_ratio() -> None:
    target, h = _two_modes(), 0.7
    x = target.sample(500, generator=_seeded())
    accepted_at = {}
    # the same noise makes the same proposals; where they were accepted they can be seen
    state, info = mala.step(_log_density(target), mala.init(_log_density(target), x), step_size=h, generator=_seeded(2))
    y = state.x

    def drift(v: Tensor) -> Tensor:
        e = 1e-5  # by finite differences: nothing of autograd's
        return v - 0.5 * h * (target(v + e) - target(v - e)).unsqueeze(1) / (2 * e)

    forward = Normal(drift(x), h**0.5).log_prob(y).squeeze(1)
    backward = Normal(drift(y), h**0.5).log_prob(x).squeeze(1)
    expected = (target(x) - target(y) + backward - forward).exp().clamp_max(1.0)
    accepted_at = info.accepted
    assert 100 < int(accepted_at.sum()) < 500
    torch.testing.assert_close(info.acceptance[accepted_at], expected[accepted_at], rtol=1e-6, atol=1e-8)


def test_moments_of_a_gaussian_have_no_bias_at_long_steps() -> None:
    covariance = torch.tensor([[1.0, 0.6], [0.6, 0.5]], dtype=torch.float64)
    target = Gaussian(torch.tensor([1.0, -2.0], dtype=torch.float64), covariance)
    state = mala.init(_log_density(target), torch.zeros(20_000, 2, dtype=torch.float64))
    generator = _seeded()
    for _ in range(150):
        state, _ = mala.step(_log_density(target), state, step_size=0.3, generator=generator)
    torch.testing.assert_close(state.x.mean(0), target.mean, rtol=0, atol=0.03)
    torch.testing.assert_close(torch.cov(state.x.T), covariance, rtol=0, atol=0.04)


def test_rows_are_accepted_one_by_one_and_the_state_is_that_of_its_rows() -> None:
    target = _two_modes()
    x = target.sample(300, generator=_seeded()).unsqueeze(2)  # an event of two axes
    log_density = _log_density(lambda v: target(v.flatten(1)))
    before = mala.init(log_density, x)
    after, info = mala.step(log_density, before, step_size=1.5, generator=_seeded(1))
    assert info.acceptance.shape == info.accepted.shape == (300,)
    assert 0 < int(info.accepted.sum()) < 300
    assert torch.equal((after.x != x).flatten(), info.accepted)
    fresh = mala.init(log_density, after.x)
    torch.testing.assert_close(after.log_density, fresh.log_density, rtol=0, atol=1e-12)
    torch.testing.assert_close(after.gradient, fresh.gradient, rtol=0, atol=1e-12)
    assert not any(t.requires_grad for t in after)


def test_rows_do_not_see_each_other() -> None:
    target = _two_modes()
    x = target.sample(4, generator=_seeded())
    moved, _ = mala.step(_log_density(target), mala.init(_log_density(target), x), step_size=0.5, generator=_seeded(1))
    x[3] = 50.0
    other, _ = mala.step(_log_density(target), mala.init(_log_density(target), x), step_size=0.5, generator=_seeded(1))
    assert torch.equal(moved.x[:3], other.x[:3])


def test_it_never_steps_where_the_density_is_nan_or_zero() -> None:
    def half(x: Tensor) -> Tensor:  # an exponential: no density below 0, and a NaN below -1
        values = -x[:, 0]
        values = values.masked_fill(x[:, 0] < 0, -torch.inf)
        return values.masked_fill(x[:, 0] < -1, torch.nan)

    x = torch.empty(20_000, 1, dtype=torch.float64).exponential_(generator=_seeded())
    state, generator = mala.init(half, x), _seeded(1)
    rejected = 0
    for _ in range(20):
        state, info = mala.step(half, state, step_size=0.8, generator=generator)
        rejected += int((~info.accepted).sum())
        assert bool(torch.isfinite(info.acceptance).all())
    assert rejected > 1000
    assert bool((state.x >= 0).all()) and bool(torch.isfinite(state.gradient).all())
    assert state.x.mean().item() == pytest.approx(1.0, abs=0.03)
    assert state.x.var().item() == pytest.approx(1.0, abs=0.08)


def test_it_is_reproduced_by_the_generator_alone() -> None:
    target = _log_density(_two_modes())
    x = torch.randn(50, 1, dtype=torch.float64)
    before = torch.get_rng_state()
    first, again, other = (
        mala.step(target, mala.init(target, x), step_size=0.5, generator=_seeded(seed))[0].x for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_step_size_on_the_device_is_the_number() -> None:
    target, x = _log_density(_two_modes()), torch.randn(50, 1, dtype=torch.float64)
    state = mala.init(target, x)
    number, _ = mala.step(target, state, step_size=0.5, generator=_seeded())
    tensor, _ = mala.step(target, state, step_size=torch.tensor(0.5, dtype=torch.float64), generator=_seeded())
    torch.testing.assert_close(number.x, tensor.x)


def test_scales_are_a_change_of_units() -> None:
    scales = torch.tensor([[0.1, 7.0]], dtype=torch.float64)  # an event of two axes
    target = lambda v: -0.5 * v.flatten(1).square().sum(1) - v.flatten(1).pow(4).sum(1)  # noqa: E731
    stretched = lambda v: target(v / scales)  # noqa: E731
    x = torch.randn(100, 1, 2, dtype=torch.float64, generator=_seeded())
    plain, there = mala.init(target, x), mala.init(stretched, x * scales)
    for seed in range(3):
        plain, info = mala.step(target, plain, step_size=0.5, generator=_seeded(seed))
        there, same = mala.step(stretched, there, step_size=0.5, scales=scales, generator=_seeded(seed))
        torch.testing.assert_close(there.x, plain.x * scales)
        torch.testing.assert_close(same.acceptance, info.acceptance)
    assert not bool(info.accepted.all())
    with pytest.raises(ContractError, match=r"scales must have the rows' shape \(1, 2\), got \(2,\)"):
        mala.step(target, plain, step_size=0.5, scales=torch.ones(2))


def test_a_step_far_too_long_diverges_and_leaves_the_chain_where_it_was() -> None:
    x = 1 + torch.rand(50, 2, generator=_seeded())
    target = _log_density(lambda v: v.square().sum(1).square())
    after, info = mala.step(target, mala.init(target, x), step_size=100.0, generator=_seeded())
    assert bool(info.diverging.all()) and torch.equal(after.x, x)
    _, info = mala.step(target, mala.init(target, x), step_size=1e-3, generator=_seeded())
    assert not bool(info.diverging.any())


@pytest.mark.parametrize(("scale", "start"), [(0.01, 1.0), (1.0, 1.0), (30.0, 0.01)])
@pytest.mark.parametrize("target", [0.57, 0.8])
def test_adaptation_finds_the_step_with_that_acceptance(scale: float, start: float, target: float) -> None:
    density = _log_density(lambda x: 0.5 * (x / scale).square().sum(1))
    generator = _seeded()
    x = scale * torch.randn(500, 5, dtype=torch.float64, generator=generator)
    state, size = mala.init(density, x), start_adaptation(start, x)
    for _ in range(120):
        state, info = mala.step(density, state, step_size=size.step_size, generator=generator)
        size = adapt(size, info.acceptance, target=target)
    assert size.steps == 120
    assert size.average.shape == () and size.average.dtype == torch.float64
    _, info = mala.step(density, state, step_size=size.average, generator=generator)
    assert info.acceptance.mean().item() == pytest.approx(target, abs=0.05)


def test_what_it_cannot_do_is_refused() -> None:
    x = torch.zeros(3, 2)
    with pytest.raises(ContractError, match=r"shape \(3, 1\) for 3 rows"):
        mala.init(lambda v: v[:, :1], x)
    with pytest.raises(ContractError, match=r"shape \(\) for 3 rows"):
        mala.init(lambda v: v.sum(), x)
    with pytest.raises(ValueError, match=r"step_size must be a finite number above 0, got 0\.0"):
        start_adaptation(0.0, x)
    with pytest.raises(ValueError, match=r"target must be an acceptance rate between 0 and 1, got 1\.0"):
        adapt(start_adaptation(0.1, x), torch.ones(3), target=1.0)
