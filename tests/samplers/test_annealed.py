"""Annealed sampling from wide to the target."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from chainfree.checks import ContractError
from chainfree.energies import Banana, Gaussian
from chainfree.samplers import anneal, tempering


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normal(x: Tensor) -> Tensor:
    return -0.5 * x.square().sum(1)


BASE = Gaussian(torch.zeros(2, dtype=torch.float64), 9.0 * torch.eye(2, dtype=torch.float64))


def _rising(levels: int) -> Tensor:
    return torch.linspace(0, 1, levels, dtype=torch.float64)


def test_quantiles_of_the_banana() -> None:
    target = Banana(2, scale=1.0, width=0.7).double()
    start = BASE.sample(2000, generator=_seeded())
    x, info = anneal(
        lambda v: -target(v),
        start,
        betas=_rising(30).square(),
        base=BASE.log_prob,
        step_size=1.0,
        moves=6,
        jitter=0.3,
        generator=_seeded(1),
    )
    exact = target.sample(200_000, generator=_seeded(2))
    for q in (0.05, 0.25, 0.5, 0.75, 0.95):
        below = (x < exact.quantile(q, dim=0)).double().mean(0)
        error = (q * (1 - q) * (1 / 2000 + 1 / 200_000)) ** 0.5
        assert ((below - q) / error).abs().max().item() < 4
    assert info.acceptance.shape == info.step_size.shape == (30,)
    assert info.acceptance[5:].min().item() > 0.65
    assert info.step_size[-1] < info.step_size.max()


def test_without_a_base_it_goes_along_powers_of_the_target() -> None:
    x, info = anneal(
        _normal,
        5 * torch.randn(5000, 3, dtype=torch.float64, generator=_seeded()),
        betas=tempering.ladder(20, 0.04)[::-1],
        step_size=2.0,
        moves=4,
        leapfrog=4,
        jitter=0.3,
        generator=_seeded(1),
    )
    assert (x.var(0) - 1).abs().max().item() < 4 * (2 / 5000) ** 0.5
    assert x.mean(0).abs().max().item() < 4 / 5000**0.5
    assert info.step_size.shape == (20,)


def test_without_a_target_the_step_size_stays() -> None:
    options: dict[str, Any] = {"betas": [0.1, 0.5, 1.0], "step_size": 0.5, "leapfrog": 2}
    kept, moved = (
        anneal(_normal, torch.zeros(9, 2), target=target, generator=_seeded(), **options)[1].step_size
        for target in (None, 0.8)
    )
    assert torch.equal(kept, torch.full_like(kept, 0.5)) and bool((moved != 0.5).all())


def test_with_one_leapfrog_step_and_one_level_it_is_a_move_at_the_target() -> None:
    x, info = anneal(
        lambda v: _normal(v.flatten(1)),
        torch.zeros(9, 1, 2, 2),
        betas=[1.0],
        step_size=0.3,
        leapfrog=1,
        generator=_seeded(),
    )
    assert x.shape == (9, 1, 2, 2) and info.acceptance.shape == (1,) and int(info.diverging) == 0


def test_the_generator_alone_decides_and_the_rows_stay() -> None:
    x = torch.randn(20, 2, dtype=torch.float64)
    kept, before = x.clone(), torch.get_rng_state()
    first, again, other = (
        anneal(_normal, x, betas=[0.1, 0.5, 1.0], step_size=0.3, jitter=0.2, generator=_seeded(s))[0] for s in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), before) and torch.equal(x, kept)
    assert torch.equal(first, again) and not torch.equal(first, other) and not first.requires_grad


def test_what_diverges_is_counted_and_stays() -> None:
    nowhere = lambda v: _normal(v).masked_fill(v[:, 0] > 0, torch.nan)  # noqa: E731
    x = -torch.rand(200, 2, dtype=torch.float64, generator=_seeded())
    moved, info = anneal(nowhere, x, betas=[0.5, 1.0], step_size=1.0, leapfrog=2, generator=_seeded(1))
    assert 20 < int(info.diverging) < 380 and bool((moved[:, 0] <= 0).all())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"betas": [1.0, 0.5]}, "betas must rise from at least 0 to exactly 1"),
        ({"betas": [0.0, 1.0]}, "give a base density or end above 0"),
        ({"step_size": 0.0}, "step_size must be a finite number above 0"),
        ({"moves": 0}, "moves must be a whole number above 0"),
        ({"leapfrog": 0}, "leapfrog must be a whole number above 0"),
        ({"jitter": 1.0}, "jitter must be a number in"),
        ({"target": 0.0}, "target must be an acceptance rate"),
        ({"scales": torch.ones(3)}, "scales must have the rows' shape"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        anneal(_normal, torch.zeros(3, 2), **{"betas": [0.5, 1.0], "step_size": 0.1, **options})
    with pytest.raises(ContractError, match="there are no chains"):
        anneal(_normal, torch.zeros(0, 2), betas=[0.5, 1.0], step_size=0.1)
