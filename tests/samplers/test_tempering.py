"""Parallel tempering: swaps that keep every temperature's law, and modes that no single chain passes between."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from chainfree.checks import ContractError
from chainfree.energies import Gaussian, GaussianMixture
from chainfree.samplers import hmc, run, tempering


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normal(x: Tensor) -> Tensor:
    return -0.5 * x.square().sum(1)


def _far_modes() -> GaussianMixture:
    return GaussianMixture(torch.tensor([[-6.0, 0.0], [6.0, 3.0]], dtype=torch.float64), 0.25, weights=[0.8, 0.2])


def test_exact_draws_stay_exact_at_every_temperature() -> None:
    # powers of a normal are normal; 60,000 exact draws at each
    betas = torch.tensor([1.0, 0.6, 0.3, 0.1], dtype=torch.float64)
    generator = _seeded()
    x = torch.randn(4, 60_000, 1, dtype=torch.float64, generator=generator) / betas.sqrt().view(4, 1, 1)
    state = tempering.init(_normal, x, betas=betas)
    swaps = torch.zeros(3)
    for _ in range(6):
        state, info = tempering.step(_normal, state, step_size=0.8, leapfrog=2, generator=generator)
        swaps += info.swapped.float().mean(1)
    assert bool((swaps > 0.5).all())  # of 3 turns each
    scaled = state.all_x.squeeze(2) * betas.sqrt().unsqueeze(1)
    for power, moment, spread in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)]:
        z = (scaled.pow(power).mean(1) - moment) / (spread / 60_000) ** 0.5
        assert z.abs().max().item() < 4
    # neighbours know nothing of each other
    product = scaled[:-1] * scaled[1:]
    assert (product.mean(1) * 60_000**0.5).abs().max().item() < 4


def test_a_swap_is_in_detailed_balance() -> None:
    # steps so short that only swaps move: pairs before and after are exchangeable
    betas = torch.tensor([1.0, 0.25], dtype=torch.float64)
    x = torch.randn(2, 200_000, 1, dtype=torch.float64, generator=_seeded()) / betas.sqrt().view(2, 1, 1)
    state = tempering.init(_normal, x, betas=betas)
    after, info = tempering.step(_normal, state, step_size=1e-9, leapfrog=1, generator=_seeded(1))
    before, now = state.all_x[..., 0], after.all_x[..., 0]
    expected = (0.75 * 0.5 * (before[0].square() - before[1].square())).clamp_max(0).exp()
    torch.testing.assert_close(info.swap_acceptance[0], expected, rtol=0, atol=1e-6)
    assert torch.equal(info.swapped[0], (now[0] - before[1]).abs() < 1e-6)
    values = before[0].square() * now[0].abs() - now[0].square() * before[0].abs()
    assert abs(float(values.mean() / values.std()) * len(values) ** 0.5) < 4
    assert 0.2 < info.swapped.double().mean().item() < 0.8


def test_even_and_odd_pairs_take_turns_and_rows_only_change_places() -> None:
    betas = tempering.ladder(5, 0.9)
    x = torch.randn(5, 40, 2, dtype=torch.float64, generator=_seeded())
    state = tempering.init(_normal, x, betas=betas)
    for turn in range(4):
        before = state
        state, info = tempering.step(_normal, state, step_size=1e-9, leapfrog=1, generator=_seeded(turn))
        assert not bool(info.swapped[1 - turn % 2 :: 2].any())
        assert bool(info.swapped[turn % 2 :: 2].any(1).all())
        ours, theirs = (s.all_x.sum(2).sort(0).values for s in (state, before))
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    fresh = tempering.init(_normal, state.all_x, betas=betas)
    for name in ("x", "log_density", "gradient", "gain"):
        torch.testing.assert_close(getattr(state.points, name), getattr(fresh.points, name), rtol=0, atol=1e-12)


def test_it_finds_the_weights_of_far_modes_where_hmc_does_not() -> None:
    target = _far_modes()
    log_density = lambda x: -target(x)  # noqa: E731
    start = torch.tensor([6.0, 3.0], dtype=torch.float64) + torch.randn(60, 2, dtype=torch.float64, generator=_seeded())
    kernel = tempering.kernel(log_density, betas=tempering.ladder(6, 0.01), leapfrog=4, jitter=0.3)
    options: dict[str, Any] = {"draws": 400, "warmup": 200, "step_size": 0.2, "metric": False}
    record = run(kernel, start, generator=_seeded(1), **options)
    left = (record.draws[..., 0] < 0).double().mean(0)
    error = float(left.std() / len(left) ** 0.5)
    assert error < 0.03 and abs(left.mean().item() - 0.8) < 4 * error
    assert record.step_size.shape == record.acceptance.shape == (6,)
    assert bool((record.step_size.diff() > 0).all())  # hotter is wider
    torch.testing.assert_close(record.acceptance, torch.full_like(record.acceptance, 0.8), rtol=0, atol=0.05)
    alone = run(hmc.kernel(log_density, leapfrog=4, jitter=0.3), start, generator=_seeded(1), **options)
    assert not bool((alone.draws[..., 0] < 0).any())


def test_along_a_path_from_a_base_that_exact_draws_stay_exact() -> None:
    # base N(0, 9) to target N(2, 1/4): every place of the path is normal
    betas = torch.tensor([1.0, 0.5, 0.1, 0.0], dtype=torch.float64)
    base = Gaussian(torch.zeros(1, dtype=torch.float64), torch.full((1, 1), 9.0, dtype=torch.float64)).log_prob
    target = lambda x: -2.0 * (x[:, 0] - 2).square()  # noqa: E731
    precision = betas * 4 + (1 - betas) / 9
    mean = betas * 8 / precision
    generator = _seeded()
    noise = torch.randn(4, 40_000, dtype=torch.float64, generator=generator)
    x = mean.unsqueeze(1) + noise / precision.sqrt().unsqueeze(1)
    state = tempering.init(target, x.unsqueeze(2), betas=betas, base=base)
    sizes = 0.7 / precision.sqrt()
    for _ in range(4):
        state, info = tempering.step(target, state, step_size=sizes, leapfrog=2, base=base, generator=generator)
    assert bool((info.swap_acceptance.mean(1) > 0.05).all())
    scaled = (state.all_x.squeeze(2) - mean.unsqueeze(1)) * precision.sqrt().unsqueeze(1)
    for power, moment, spread in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0)]:
        assert ((scaled.pow(power).mean(1) - moment) / (spread / 40_000) ** 0.5).abs().max().item() < 4


def test_all_rows_go_through_one_call() -> None:
    calls: list[int] = []

    def counted(x: Tensor) -> Tensor:
        calls.append(len(x))
        return _normal(x)

    state = tempering.init(counted, torch.zeros(4, 5, 2), betas=tempering.ladder(4, 0.1))
    state, info = tempering.step(counted, state, step_size=0.1, leapfrog=3, generator=_seeded())
    assert calls == [20] * 4
    assert state.x.shape == (5, 2) and info.acceptance.shape == (4, 5) and info.swap_acceptance.shape == (3, 5)


def test_where_the_target_is_nan_or_zero_the_base_goes_on() -> None:
    base = _normal
    half = lambda x: (-x[:, 0]).masked_fill(x[:, 0] < 0, -torch.inf).masked_fill(x[:, 0] < -1, torch.nan)  # noqa: E731
    x = torch.randn(3, 4000, 1, dtype=torch.float64, generator=_seeded()).abs()
    state, generator = tempering.init(half, x, betas=[1.0, 0.5, 0.0], base=base), _seeded(1)
    for _ in range(30):
        state, info = tempering.step(half, state, step_size=0.5, leapfrog=2, base=base, generator=generator)
        assert bool(torch.isfinite(info.swap_acceptance).all())
    assert bool((state.all_x[:2] >= 0).all()) and bool(info.diverging[:2].any())
    assert 0.4 < (state.all_x[2] < 0).double().mean().item() < 0.6
    assert bool(torch.isfinite(state.points.gradient).all())
    assert state.x.mean().item() == pytest.approx(1.0, abs=0.07)


@pytest.mark.parametrize(
    ("betas", "words"),
    [
        ([0.5, 1.0], "betas must fall from exactly 1 to at least 0"),
        ([0.9, 0.5], "betas must fall from exactly 1"),
        ([1.0, 1.0], "betas must fall"),
        ([1.0, torch.nan], "betas must fall"),
        ([1.0, 0.0], "betas reach 0, where nothing is left of the target; give a base density"),
        ([], "betas must be a list of inverse temperatures"),
    ],
)
def test_betas_that_are_no_ladder_are_refused(betas: list[float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tempering.kernel(_normal, betas=betas, leapfrog=2)


def test_what_it_cannot_do_is_refused() -> None:
    state = tempering.init(_normal, torch.zeros(2, 3, 1), betas=[1.0, 0.5])
    with pytest.raises(ContractError, match=r"rows for each of 2 temperatures, \(K, B, \*event\), got \(3, 2\)"):
        tempering.init(_normal, torch.zeros(3, 2), betas=[1.0, 0.5])
    with pytest.raises(ValueError, match="leapfrog must be a whole number above 0"):
        tempering.step(_normal, state, step_size=0.1, leapfrog=0)
    with pytest.raises(ValueError, match="step_size must be a finite number above 0"):
        tempering.step(_normal, state, step_size=-0.1, leapfrog=1)
    with pytest.raises(ValueError, match="jitter must be a number in"):
        tempering.kernel(_normal, betas=[1.0, 0.5], leapfrog=1, jitter=2.0)
    with pytest.raises(ValueError, match="levels must be a whole number of at least 2, got 1"):
        tempering.ladder(1, 0.1)
    with pytest.raises(ValueError, match=r"hottest must be between 0 and 1, got 2\.0"):
        tempering.ladder(3, 2.0)
