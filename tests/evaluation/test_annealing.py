"""Schedules: the ladder's spacing against the closed form between normals, step sizes, and what they refuse."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from chainfree.energies import DoubleWell, Gaussian
from chainfree.evaluation import AnnealingSchedule, ais, annealing, annealing_schedule
from chainfree.evaluation.annealing import systematic


def normal(dim: int, variance: float) -> Gaussian:
    return Gaussian(torch.zeros(dim, dtype=torch.float64), variance * torch.eye(dim, dtype=torch.float64))


def test_between_normals_steps_are_equal_in_the_paths_length(generator: torch.Generator) -> None:
    # at beta the path is N(0, 1 / k), k = (1 - beta) / 9 + beta; the log-ratio -c |x|^2 / 2 + const, c = 1 - 1/9, has the
    # standard deviation c sqrt(dim / 2) / k, so that the length up to beta is sqrt(dim / 2) log(9 k)
    dim = 6
    schedule = annealing_schedule(normal(dim, 1.0), normal(dim, 9.0), temperatures=40, chains=4000, generator=generator)
    k = (1 - schedule.betas) / 9 + schedule.betas
    lengths = math.sqrt(dim / 2) * (9 * k).log()
    np.testing.assert_allclose(lengths, np.linspace(0, float(lengths[-1]), 41), atol=0.12)
    assert schedule.length == pytest.approx(float(lengths[-1]), rel=0.1)


def test_scales_are_the_paths_and_the_acceptance_is_as_aimed_at(generator: torch.Generator) -> None:
    base, energy = normal(4, 9.0), normal(4, 1.0)
    schedule = annealing_schedule(energy, base, temperatures=30, chains=1000, generator=generator)
    k = (1 - schedule.betas[1:]) / 9 + schedule.betas[1:]
    np.testing.assert_allclose(schedule.scales, k.rsqrt().unsqueeze(1).expand(30, 4), rtol=0.15)
    run = ais(energy, base, schedule=schedule, chains=500, generator=generator)
    # the first steps are on their way to it
    assert float(run.acceptance[10:].mean()) == pytest.approx(0.8, abs=0.1)


def test_a_given_ladder_is_kept(generator: torch.Generator) -> None:
    betas = torch.sigmoid(torch.linspace(-4, 4, 21))
    betas = ((betas - betas[0]) / (betas[-1] - betas[0])).tolist()
    schedule = annealing_schedule(DoubleWell(3), normal(3, 2.0).float(), betas=betas, leapfrog=3, generator=generator)
    assert schedule.betas.tolist() == betas
    assert schedule.step_sizes.shape == (20,)
    assert schedule.scales.shape == (20, 3)
    assert schedule.leapfrog == 3


def test_a_base_that_is_the_energy_costs_nothing(generator: torch.Generator) -> None:
    schedule = annealing_schedule(normal(2, 1.0), normal(2, 1.0), temperatures=5, generator=generator)
    assert schedule.length == pytest.approx(0.0, abs=1e-6)
    np.testing.assert_allclose(schedule.betas, np.linspace(0, 1, 6), atol=1e-12)


def test_a_bounded_support_loses_its_share_once(generator: torch.Generator) -> None:
    def half(x: Tensor) -> Tensor:
        return torch.where(x[:, 0] > 0, 0.5 * x.square().sum(1), math.inf)

    schedule = annealing_schedule(half, normal(1, 2.0), temperatures=10, generator=generator)
    assert bool((schedule.betas.diff() > 0).all())


def test_systematic_resampling_takes_each_as_often_as_its_weight(generator: torch.Generator) -> None:
    weights = torch.tensor([0.1, 0.0, 0.55, 0.25, 0.1], dtype=torch.float64)
    counts = torch.stack([systematic(weights.log(), generator).bincount(minlength=5) for _ in range(4000)]).double()
    assert bool(((counts >= (5 * weights).floor()) & (counts <= (5 * weights).ceil())).all())
    np.testing.assert_allclose(counts.mean(0), 5 * weights, atol=0.04)


def test_seeds_decide_and_the_global_generator_rests() -> None:
    state = torch.get_rng_state()
    first, again, other = (
        annealing_schedule(DoubleWell(2), normal(2, 2.0).float(), generator=torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    )
    assert torch.equal(first.betas, again.betas)
    assert torch.equal(first.step_sizes, again.step_sizes)
    assert not torch.equal(first.betas, other.betas)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperatures": 0}, "temperatures must be a whole number above 0"),
        ({"leapfrog": 0}, "leapfrog must be"),
        ({"moves": 0}, "moves must be"),
        ({"chains": 8}, "chains must be at least 16"),
        ({"betas": [0.0, 0.5]}, "betas must rise from 0 to 1"),
        ({"betas": [0.1, 1.0]}, "betas must rise from 0 to 1"),
        ({"betas": [0.0, 0.5, 0.5, 1.0]}, "betas must rise from 0 to 1"),
        ({"betas": [1.0]}, "betas must rise from 0 to 1"),
    ],
)
def test_it_refuses(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        annealing_schedule(normal(1, 1.0), normal(1, 1.0), **options)


def test_a_base_without_a_way_to_the_energy_is_refused(
    generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(annealing, "_MOST_STEPS", 50)
    with pytest.raises(ValueError, match="infinite on all draws of the base"):
        annealing_schedule(lambda x: x.sum(1) + math.inf, normal(1, 1.0), generator=generator)
    with pytest.raises(ValueError, match="weights are NaN or infinite"):
        annealing_schedule(lambda x: x.sum(1) * math.nan, normal(1, 1.0), generator=generator)
    # exp(-x) has no integral: the nearer to it, the further the chains have to go
    with pytest.raises(ValueError, match=r"the pilot run was at beta=0.* after 50 steps; is exp\(-E\) integrable"):
        annealing_schedule(lambda x: x[:, 0], normal(1, 1.0), leapfrog=1, chains=16, moves=1, generator=generator)


def test_a_given_ladder_may_have_more_steps_than_a_pilot_run(
    generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(annealing, "_MOST_STEPS", 5)
    ladder = torch.linspace(0, 1, 21).tolist()
    schedule = annealing_schedule(
        normal(1, 2.0), normal(1, 1.0), betas=ladder, leapfrog=1, chains=16, generator=generator
    )
    np.testing.assert_allclose(schedule.betas, ladder, atol=1e-6)


def test_a_schedule_of_unlike_lengths_is_refused() -> None:
    with pytest.raises(ValueError, match="3 betas need 2 step sizes and scales, got 1 and 2"):
        AnnealingSchedule(torch.tensor([0.0, 0.5, 1.0]), torch.ones(1), torch.ones(2, 3), 4, 1.0)
