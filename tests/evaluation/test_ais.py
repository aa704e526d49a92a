"""Annealed importance sampling, there and back, against known partition functions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from chainfree.checks import ContractError
from chainfree.energies import AnalyticEnergy, Banana, DoubleWell, Funnel, Gaussian, GaussianMixture, Ring
from chainfree.evaluation import AnnealingSchedule, ais, annealing_schedule, reverse_ais
from chainfree.evaluation.log_z import bound_margin
from chainfree.samplers import hmc


def rotated(dim: int) -> Gaussian:
    """A normal with variances from 0.1 to 10 along random axes."""
    axes = torch.linalg.qr(torch.randn(dim, dim, generator=torch.Generator().manual_seed(3), dtype=torch.float64))[0]
    covariance = axes * torch.logspace(-1, 1, dim, dtype=torch.float64) @ axes.T
    return Gaussian(torch.ones(dim, dtype=torch.float64), (covariance + covariance.T) / 2)


def modes(dim: int) -> GaussianMixture:
    means = torch.zeros(3, dim, dtype=torch.float64)
    means[0, 0], means[1, 0], means[2, 1] = 3.0, -3.0, 3.0
    return GaussianMixture(means, 0.5, weights=[0.1, 0.3, 0.6])


# without resampling a short ladder, so that weights vary and an error of theirs would show
COARSE = [0.0, 0.1, 0.3, 0.6, 1.0]


@pytest.mark.parametrize("resample_below", [0.0, 0.9])
@pytest.mark.parametrize("way", ["there", "back"])
def test_the_mean_weight_is_unbiased_however_badly_chains_mix(
    way: str, resample_below: float, generator: torch.Generator
) -> None:
    energy, base = DoubleWell(2, barrier=3.0).double(), Gaussian(torch.tensor([0.5, 0.0]).double())
    schedule = AnnealingSchedule(torch.tensor(COARSE).double(), torch.full((4,), 0.5), torch.ones(4, 2), 2, 1.0)
    ratios = []
    for _ in range(120):
        if way == "there":
            run = ais(energy, base, schedule=schedule, chains=20, resample_below=resample_below, generator=generator)
            ratios.append(math.exp(run.log_z.value - energy.log_z))
        else:
            rows = energy.sample(20, generator=generator)
            run = reverse_ais(
                energy, base, rows, schedule=schedule, settle=1, resample_below=resample_below, generator=generator
            )
            ratios.append(math.exp(energy.log_z - run.log_z.value))
    error = float(np.std(ratios, ddof=1)) / math.sqrt(120)
    assert 0.003 < error < 0.05
    assert abs(float(np.mean(ratios)) - 1) < 4 * error


@pytest.mark.parametrize("resample_below", [0.0, 0.9])
def test_the_standard_error_is_the_spread_over_repeats(resample_below: float, generator: torch.Generator) -> None:
    energy, base = DoubleWell(2, barrier=3.0).double(), Gaussian(torch.tensor([0.5, 0.0]).double())
    schedule = AnnealingSchedule(torch.tensor(COARSE).double(), torch.full((4,), 0.5), torch.ones(4, 2), 2, 1.0)
    found = [
        ais(energy, base, schedule=schedule, chains=200, resample_below=resample_below, generator=generator).log_z
        for _ in range(100)
    ]
    spread = float(np.std([f.value for f in found], ddof=1))
    # 100 repeats know their spread to within seven percent; systematic resampling is better than its families say
    low, high = (0.75, 1.3) if resample_below == 0 else (0.4, 1.3)
    assert low < spread / np.mean([f.standard_error for f in found]) < high


@pytest.mark.parametrize(
    ("energy", "scale"),
    [
        (rotated(10), 2.0),
        (modes(10), 2.0),
        (Banana(2).double(), 2.0),
        (Banana(10).double(), 1.5),
        (Funnel(10, scale=1.0).double(), 1.5),
        (Ring((1.0, 2.0)).double(), 1.5),
        (DoubleWell(50).double(), 1.2),
    ],
    ids=lambda value: f"{type(value).__name__}-{value.dim}" if isinstance(value, AnalyticEnergy) else None,
)
def test_there_and_back_bracket_the_truth(energy: AnalyticEnergy, scale: float, generator: torch.Generator) -> None:
    base = Gaussian(torch.zeros(energy.dim).double(), scale**2 * torch.eye(energy.dim).double())
    schedule = annealing_schedule(energy, base, temperatures=50, leapfrog=5, generator=generator)
    there = ais(energy, base, schedule=schedule, chains=200, generator=generator)
    back = reverse_ais(energy, base, energy.sample(200, generator=generator), schedule=schedule, generator=generator)
    low, high = (
        there.log_z.value - bound_margin(there.log_z, least_ess=10),
        back.log_z.value + bound_margin(back.log_z, least_ess=10),
    )
    assert low < energy.log_z < high
    assert high - low < (2.5 if energy.dim <= 10 else 5.0)


def test_weights_and_draws_are_those_of_the_paths_densities() -> None:
    """Replayed by hand: the ratios at the places where the chains were, moved by the sampler itself."""
    energy, base = modes(2), Gaussian(torch.zeros(2).double(), 4 * torch.eye(2).double())
    schedule = annealing_schedule(energy, base, temperatures=5, generator=torch.Generator().manual_seed(0))
    run = ais(energy, base, schedule=schedule, chains=10, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(1)
    x, log_weights = base.sample(10, generator=generator), torch.zeros(10).double()
    for t in range(5):

        def log_f(rows: Tensor, beta: float) -> Tensor:
            return (1 - beta) * base.log_prob(rows) - beta * energy(rows)

        now, after = float(schedule.betas[t]), float(schedule.betas[t + 1])
        log_weights += log_f(x, after) - log_f(x, now)
        density = lambda rows, beta=after: log_f(rows, beta)  # noqa: E731
        state, _ = hmc.step(
            density,
            hmc.init(density, x),
            step_size=float(schedule.step_sizes[t]),
            leapfrog=schedule.leapfrog,
            scales=schedule.scales[t],
            jitter=0.5,
            generator=generator,
        )
        x = state.x
    np.testing.assert_allclose(run.log_weights, log_weights, atol=1e-9)
    np.testing.assert_allclose(run.x, x, atol=1e-9)
    assert run.log_z.value == pytest.approx(float(torch.logsumexp(log_weights, 0)) - math.log(10))


def test_weighted_ends_are_draws_of_the_energy(generator: torch.Generator) -> None:
    energy, base = modes(2), Gaussian(torch.zeros(2).double(), 9 * torch.eye(2).double())
    schedule = annealing_schedule(energy, base, temperatures=30, leapfrog=5, generator=generator)
    for resample_below in (0.0, 0.5):
        run = ais(energy, base, schedule=schedule, chains=1500, resample_below=resample_below, generator=generator)
        weights = torch.softmax(run.log_weights, 0)
        shares = torch.zeros(3).double().index_add_(0, torch.cdist(run.x, energy.means).argmin(1), weights)
        np.testing.assert_allclose(shares, [0.1, 0.3, 0.6], atol=0.06)


def test_draws_of_one_mode_bound_what_they_know_and_draws_of_both_show_the_gap(generator: torch.Generator) -> None:
    means = torch.tensor([[0.0, 0.0], [14.0, 0.0]]).double()
    energy, base = GaussianMixture(means, 1.0, weights=[0.25, 0.75]), Gaussian(torch.zeros(2).double())
    schedule = annealing_schedule(energy, base, temperatures=50, generator=generator)
    there = ais(energy, base, schedule=schedule, chains=200, generator=generator).log_z.value
    near = Gaussian(torch.zeros(2).double()).sample(200, generator=generator)
    one = reverse_ais(energy, base, near, schedule=schedule, generator=generator).log_z.value
    both = reverse_ais(energy, base, energy.sample(200, generator=generator), schedule=schedule, generator=generator)
    assert there == pytest.approx(math.log(0.25), abs=0.02)
    assert one == pytest.approx(math.log(0.25), abs=0.02)
    assert both.log_z.value == pytest.approx(0.0, abs=0.3)


def test_families_widen_the_error_alone(generator: torch.Generator) -> None:
    energy, base = DoubleWell(2).double(), Gaussian(torch.zeros(2).double())
    schedule = annealing_schedule(energy, base, temperatures=10, generator=generator)
    rows = energy.sample(40, generator=generator)
    apart, common = (
        reverse_ais(
            energy, base, rows, schedule=schedule, families=families, generator=torch.Generator().manual_seed(0)
        ).log_z
        for families in (None, torch.arange(40) // 10)
    )
    assert apart.value == common.value
    assert common.effective_sample_size <= 4 < apart.effective_sample_size


def test_a_bounded_support_and_large_constants(generator: torch.Generator) -> None:
    def half(x: Tensor) -> Tensor:
        return torch.where(x[:, 0] > 0, 0.5 * x.square().sum(1) + 1e4, math.inf)

    found = ais(half, Gaussian(torch.zeros(1).double(), torch.eye(1).double() * 2), generator=generator).log_z
    assert abs(found.value - (0.5 * math.log(2 * math.pi) - math.log(2) - 1e4)) < 4 * found.standard_error


def test_images_pass_through(generator: torch.Generator) -> None:
    class Base:
        def log_prob(self, x: Tensor, /) -> Tensor:
            return -0.5 * x.square().sum((1, 2, 3)) - 4 * math.log(2 * math.pi)

        def sample(self, n: int, /, *, generator: torch.Generator | None = None) -> Tensor:
            return torch.randn(n, 2, 2, 2, generator=generator)

    def energy(x: Tensor) -> Tensor:
        return x.square().sum((1, 2, 3))

    schedule = annealing_schedule(energy, Base(), temperatures=20, generator=generator)
    there = ais(energy, Base(), schedule=schedule, chains=100, generator=generator)
    back = reverse_ais(energy, Base(), there.x, schedule=schedule, generator=generator)
    assert there.x.shape == back.x.shape == (100, 2, 2, 2)
    assert there.log_z.value == pytest.approx(4 * math.log(math.pi), abs=0.2)


def test_seeds_decide_and_nothing_of_the_callers_changes() -> None:
    net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1), nn.Flatten(0)).double()
    base = Gaussian(torch.zeros(2).double())
    parameters = [p.clone() for p in net.parameters()]

    def energy(x: Tensor) -> Tensor:
        return net(x) + x.square().sum(1)

    rows = base.sample(20, generator=torch.Generator().manual_seed(5))
    before, state = rows.clone(), torch.get_rng_state()
    runs = []
    for seed in (0, 0, 1):
        generator = torch.Generator().manual_seed(seed)
        schedule = annealing_schedule(energy, base, temperatures=5, generator=generator)
        there = ais(energy, base, schedule=schedule, chains=20, generator=generator)
        back = reverse_ais(energy, base, rows, schedule=schedule, settle=2, generator=generator)
        runs.append((there.log_z, back.log_z))
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    assert torch.equal(rows, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None and torch.equal(p, q) for p, q in zip(net.parameters(), parameters, strict=True))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"chains": 1}, "at least 2 chains, got 1"),
        ({"chains": 0}, "chains must be a whole number above 0"),
        ({"resample_below": 1.0}, "resample_below must be a number in"),
    ],
)
def test_ais_refuses(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ais(DoubleWell(2), Gaussian(torch.zeros(2)), **options)


def test_reverse_ais_refuses() -> None:
    energy, base = DoubleWell(2), Gaussian(torch.zeros(2))
    with pytest.raises(ValueError, match="at least 2 chains, got 1"):
        reverse_ais(energy, base, torch.zeros(1, 2))
    with pytest.raises(ValueError, match="rows has NaN"):
        reverse_ais(energy, base, torch.full((3, 2), math.nan))
    with pytest.raises(ValueError, match="settle must be"):
        reverse_ais(energy, base, torch.zeros(3, 2), settle=-1)
    with pytest.raises(ContractError):
        ais(lambda x: x, base)
