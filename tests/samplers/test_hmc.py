"""Hamiltonian Monte Carlo against what a leapfrog and a Metropolis step must keep."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from chainfree.checks import ContractError
from chainfree.energies import MLP, AnalyticEnergy, Banana, Funnel, GaussianMixture
from chainfree.samplers import hmc, mala, run
from chainfree.samplers.hmc import trajectory


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _two_modes() -> GaussianMixture:
    return GaussianMixture(torch.tensor([[-0.8], [1.2]], dtype=torch.float64), 0.3, weights=[0.3, 0.7])


def _log_density(energy: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: -energy(x)


def _normal(x: Tensor) -> Tensor:
    return -0.5 * x.square().sum(1)


def _walk(log_density: Any, x: Tensor, momentum: Tensor, *, step_size: float, leapfrog: int) -> tuple[Tensor, Tensor]:
    evaluate = partial(hmc.init, log_density)
    end, last = trajectory(
        evaluate, evaluate(x), momentum, reach=torch.tensor(step_size, dtype=x.dtype), leapfrog=leapfrog
    )
    return end.x, last


def test_a_trajectory_turned_round_comes_back() -> None:
    target = _log_density(Banana(3).double())
    x, momentum = torch.randn(2, 50, 3, dtype=torch.float64, generator=_seeded())
    there, last = _walk(target, x, momentum, step_size=0.1, leapfrog=13)
    back, first = _walk(target, there, -last, step_size=0.1, leapfrog=13)
    assert bool(((there - x).norm(dim=1) > 0.2).any())
    torch.testing.assert_close(back, x, rtol=0, atol=1e-9)
    torch.testing.assert_close(-first, momentum, rtol=0, atol=1e-9)


def test_a_trajectory_keeps_volume() -> None:
    target = _log_density(Banana(2).double())
    start = torch.randn(1, 4, dtype=torch.float64, generator=_seeded())
    shifts = 1e-5 * torch.eye(4, dtype=torch.float64)
    around = torch.cat([start + shifts, start - shifts])
    ends = torch.cat(_walk(target, around[:, :2], around[:, 2:], step_size=0.3, leapfrog=5), dim=1)
    jacobian = (ends[:4] - ends[4:]) / 2e-5
    assert (jacobian - torch.eye(4, dtype=torch.float64)).abs().max() > 0.5
    assert torch.linalg.det(jacobian).item() == pytest.approx(1.0, abs=1e-7)


def test_the_energy_error_is_of_second_order() -> None:
    target = _log_density(Banana(2).double())
    state = hmc.init(target, Banana(2).double().sample(400, generator=_seeded()))
    errors = [
        hmc.step(target, state, step_size=0.08 / k, leapfrog=8 * k, generator=_seeded(1))[1].energy_error.abs()
        for k in (1, 2, 4)
    ]
    for coarse, fine in itertools.pairwise(errors):
        assert float((coarse.mean() / fine.mean()).log2()) == pytest.approx(2.0, abs=0.15)


@pytest.mark.parametrize("leapfrog", [1, 2, 7])
def test_of_a_normal_a_step_is_a_power_of_a_known_matrix(leapfrog: int) -> None:
    h, scale = 0.9, torch.tensor([0.5, 3.0], dtype=torch.float64)
    x = scale * torch.randn(300, 2, dtype=torch.float64, generator=_seeded())
    target = lambda v: -0.5 * (v / scale).square().sum(1)  # noqa: E731
    state, info = hmc.step(
        target, hmc.init(target, x), step_size=h, leapfrog=leapfrog, scales=scale, generator=_seeded(1)
    )
    # in units of the scales every axis is the harmonic oscillator, whose leapfrog is linear
    kick = torch.tensor([[1.0, 0.0], [-h / 2, 1.0]], dtype=torch.float64)
    drift = torch.tensor([[1.0, h], [0.0, 1.0]], dtype=torch.float64)
    power = torch.linalg.matrix_power(kick @ drift @ kick, leapfrog)
    start = torch.stack([x / scale, torch.randn(300, 2, dtype=torch.float64, generator=_seeded(1))])
    end = torch.einsum("ij,jbd->ibd", power, start)
    error = 0.5 * (end.square().sum((0, 2)) - start.square().sum((0, 2)))
    torch.testing.assert_close(info.energy_error, error, rtol=0, atol=1e-12)
    torch.testing.assert_close(info.acceptance, (-error).clamp_max(0).exp(), rtol=0, atol=1e-12)
    expected = torch.where(info.accepted.unsqueeze(1), end[0] * scale, x)
    torch.testing.assert_close(state.x, expected, rtol=0, atol=1e-12)
    assert int(info.accepted.sum()) > 0 and (leapfrog == 1 or not bool(info.accepted.all()))


def test_one_leapfrog_step_is_mala() -> None:
    target = _log_density(_two_modes())
    x = _two_modes().sample(200, generator=_seeded())
    ours, info = hmc.step(target, hmc.init(target, x), step_size=0.9, leapfrog=1, generator=_seeded(1))
    theirs, verdict = mala.step(target, mala.init(target, x), step_size=0.81, generator=_seeded(1))
    torch.testing.assert_close(ours.x, theirs.x)
    torch.testing.assert_close(info.acceptance, verdict.acceptance)


@pytest.mark.parametrize("options", [{}, {"jitter": 0.8}, {"scales": torch.tensor([0.7], dtype=torch.float64)}])
def test_stationary_draws_and_their_successors_are_exchangeable(options: dict[str, Any]) -> None:
    target = _two_modes()
    x = target.sample(100_000, generator=_seeded())
    log_density = _log_density(target)
    state, info = hmc.step(
        log_density, hmc.init(log_density, x), step_size=0.8, leapfrog=3, generator=_seeded(1), **options
    )
    y = state.x
    values = (y * x.square() - x * y.square()).flatten()
    assert abs(float(values.mean() / (values.std() / len(values) ** 0.5))) < 4
    assert 0.3 < info.acceptance.mean().item() < 0.99
    assert y.mean().item() == pytest.approx(0.6, abs=0.013)
    assert y.var().item() == pytest.approx(0.3 + 0.3 * 0.7 * 4, rel=0.014)


TARGETS: dict[str, AnalyticEnergy] = {
    "banana": Banana(2, scale=1.0, width=0.7).double(),
    "funnel": Funnel(3, scale=1.0).double(),
    "mixture": GaussianMixture(
        torch.tensor([[-1.0, 0.0], [1.0, 1.0], [0.5, -1.5]], dtype=torch.float64), 0.4, weights=[0.5, 0.3, 0.2]
    ),
}


@pytest.mark.parametrize("name", TARGETS)
def test_moments_and_quantiles_are_those_of_exact_draws(name: str) -> None:
    target = TARGETS[name]
    log_density = _log_density(target)
    generator = _seeded(3)
    # chains that start deep in the neck of the funnel stay there: no step size fits all of it
    start = 0.5 * torch.randn(600, target.dim, dtype=torch.float64, generator=generator)
    record = run(
        hmc.kernel(log_density, leapfrog=6, jitter=0.3),
        start,
        draws=120,
        warmup=200,
        step_size=0.2,
        target=0.9,
        generator=generator,
    )
    exact = target.sample(400_000, generator=generator)
    cuts = torch.stack([exact.quantile(q, dim=0) for q in (0.05, 0.25, 0.5, 0.75, 0.95)])

    def statistics(x: Tensor) -> Tensor:  # values whose means are moments and probabilities
        below = (x.unsqueeze(-2) < cuts).to(x).flatten(-2)
        clipped = x.clamp(cuts[0] - 1, cuts[-1] + 1)  # the tails of funnel and banana have too few draws for an error
        return torch.cat([clipped, clipped.square(), clipped[..., :1] * clipped[..., 1:2], below], dim=-1)

    of_chains = statistics(record.draws).mean(0)  # chains are independent: so are their means
    truth = statistics(exact)
    error = (of_chains.var(0) / len(of_chains) + truth.var(0) / len(truth)).sqrt()
    z = (of_chains.mean(0) - truth.mean(0)) / error
    assert z.abs().max().item() < 4.0, z
    assert (error / truth.std(0)).max().item() < 0.08  # sharp enough to convict
    assert record.acceptance.item() == pytest.approx(0.9, abs=0.05)


def test_a_trajectory_costs_as_many_gradients_as_leapfrog_steps() -> None:
    calls: list[int] = []

    def counted(x: Tensor) -> Tensor:
        calls.append(len(x))
        return _normal(x)

    state = hmc.init(counted, torch.zeros(5, 2))
    calls.clear()
    state, _ = hmc.step(counted, state, step_size=0.1, leapfrog=7, generator=_seeded())
    assert calls == [5] * 7


def test_scales_are_a_change_of_units() -> None:
    scales = torch.tensor([[0.1, 7.0]], dtype=torch.float64)  # an event of two axes
    target = lambda v: -0.5 * v.flatten(1).square().sum(1) - v.flatten(1).pow(4).sum(1)  # noqa: E731
    stretched = lambda v: target(v / scales)  # noqa: E731
    x = torch.randn(100, 1, 2, dtype=torch.float64, generator=_seeded())
    plain, there = hmc.init(target, x), hmc.init(stretched, x * scales)
    for seed in range(3):
        plain, info = hmc.step(target, plain, step_size=0.4, leapfrog=4, generator=_seeded(seed))
        there, same = hmc.step(stretched, there, step_size=0.4, leapfrog=4, scales=scales, generator=_seeded(seed))
        torch.testing.assert_close(there.x, plain.x * scales)
        torch.testing.assert_close(same.energy_error, info.energy_error)
    assert not bool(info.accepted.all())


def test_step_sizes_may_be_numbers_tensors_or_one_a_chain() -> None:
    x = torch.randn(6, 2, dtype=torch.float64, generator=_seeded())
    state = hmc.init(_normal, x)
    number, _ = hmc.step(_normal, state, step_size=0.3, leapfrog=2, generator=_seeded())
    for size in (torch.tensor(0.3, dtype=torch.float64), torch.full((6,), 0.3, dtype=torch.float64)):
        same, _ = hmc.step(_normal, state, step_size=size, leapfrog=2, generator=_seeded())
        assert torch.equal(same.x, number.x)
    mixed = torch.tensor([0.3] * 3 + [0.7] * 3, dtype=torch.float64)
    moved, _ = hmc.step(_normal, state, step_size=mixed, leapfrog=2, generator=_seeded())
    assert torch.equal(moved.x[:3], number.x[:3]) and not torch.equal(moved.x[3:], number.x[3:])


def test_jitter_is_what_moves_a_chain_whose_trajectory_is_a_period() -> None:
    # with 4 steps the leapfrog of a unit oscillator turns by a whole round where cos(pi/2) = 1 - h^2/2
    x = torch.ones(2000, 1, dtype=torch.float64)
    state = hmc.init(_normal, x)
    still, _ = hmc.step(_normal, state, step_size=2**0.5, leapfrog=4, generator=_seeded())
    torch.testing.assert_close(still.x, x)
    moved, _ = hmc.step(_normal, state, step_size=2**0.5, leapfrog=4, jitter=0.2, generator=_seeded())
    assert (moved.x - x).abs().mean().item() > 0.3


def test_nothing_steps_where_the_density_is_nan_infinite_or_zero() -> None:
    def half(x: Tensor) -> Tensor:  # an exponential; no density below 0, a NaN below -1, a pole above 9
        values = -x[:, 0]
        values = values.masked_fill(x[:, 0] < 0, -torch.inf).masked_fill(x[:, 0] > 9, torch.inf)
        return values.masked_fill(x[:, 0] < -1, torch.nan)

    x = torch.empty(10_000, 1, dtype=torch.float64).exponential_(generator=_seeded())
    state, generator = hmc.init(half, x[x[:, 0] < 9]), _seeded(1)
    diverged = 0
    for _ in range(20):
        state, info = hmc.step(half, state, step_size=0.5, leapfrog=2, generator=generator)
        lost = ~torch.isfinite(info.energy_error)
        assert torch.equal(info.diverging, lost) and not bool((info.diverging & info.accepted).any())
        assert bool(torch.isfinite(info.acceptance).all())
        diverged += int(info.diverging.sum())
    assert diverged > 1000
    assert bool((state.x >= 0).all()) and bool((state.x <= 9).all()) and bool(torch.isfinite(state.gradient).all())
    assert state.x.mean().item() == pytest.approx(1.0, abs=0.05)


def test_a_step_far_too_long_diverges_and_leaves_the_chain_where_it_was() -> None:
    x = torch.randn(50, 2, generator=_seeded())
    state = hmc.init(_normal, x)
    after, info = hmc.step(_normal, state, step_size=50.0, leapfrog=2, generator=_seeded())
    assert bool(info.diverging.all()) and bool((info.energy_error > 1000).all())
    assert torch.equal(after.x, x) and not bool(info.accepted.any())
    _, ruined = hmc.step(_normal, state, step_size=1e15, leapfrog=9, generator=_seeded())
    assert bool(ruined.diverging.all()) and not bool(ruined.acceptance.any())


def test_a_chain_that_starts_where_there_is_no_density_may_enter() -> None:
    box = lambda v: (0.0 * v.sum(1)).masked_fill(v[:, 0].abs() > 1, -torch.inf)  # noqa: E731
    state = hmc.init(box, torch.full((100, 1), 1.5))
    state, info = hmc.step(box, state, step_size=1.0, leapfrog=1, generator=_seeded())
    inside = state.x[:, 0].abs() <= 1
    assert torch.equal(inside, info.accepted) and 0 < int(inside.sum()) < 100


@pytest.mark.parametrize("grad", [True, False])
def test_rows_parameters_and_the_grad_mode_stay(grad: bool) -> None:
    energy, x = MLP(2, width=8, depth=1), torch.randn(5, 2)
    kept = x.clone()
    with torch.set_grad_enabled(grad):
        state = hmc.init(_log_density(energy), x)
        before = [part.clone() for part in state]
        after, info = hmc.step(_log_density(energy), state, step_size=0.1, leapfrog=3, generator=_seeded())
        assert torch.is_grad_enabled() == grad
    assert torch.equal(x, kept) and all(torch.equal(a, b) for a, b in zip(state, before, strict=True))
    assert not any(part.requires_grad for part in (*after, *info))
    assert all(p.grad is None for p in energy.parameters())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"step_size": 0.0}, r"step_size must be a finite number above 0, got 0\.0"),
        ({"leapfrog": 0}, "leapfrog must be a whole number above 0, got 0"),
        ({"jitter": 1.0}, r"jitter must be a number in \[0, 1\), got 1\.0"),
        ({"scales": torch.ones(3)}, r"scales must have the rows' shape \(2,\), got \(3,\)"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], words: str) -> None:
    state = hmc.init(_normal, torch.zeros(3, 2))
    with pytest.raises(ValueError, match=words):
        hmc.step(_normal, state, **{"step_size": 0.1, "leapfrog": 2, **options})
    with pytest.raises(ContractError, match=r"shape \(3, 2\) for 3 rows"):
        hmc.init(lambda v: v, torch.zeros(3, 2))
