"""Unadjusted Langevin steps against what is known of them on Gaussians."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from chainfree.checks import ContractError
from chainfree.energies import MLP, ConvNet, Gaussian
from chainfree.samplers import langevin


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normal(x: Tensor) -> Tensor:
    return 0.5 * x.square().sum(1)


@pytest.mark.parametrize("step_size", [0.1, 1.0, 2.5])
def test_the_stationary_variance_of_a_standard_normal_is_its_known_wrong_one(step_size: float) -> None:
    # the chain starts in the law that theory says it keeps: N(0, 1/(1 - h/4))
    variance = 1 / (1 - step_size / 4)
    x = variance**0.5 * torch.randn(100_000, 1, dtype=torch.float64, generator=_seeded(1))
    x = langevin(_normal, x, steps=3, step_size=step_size, generator=_seeded(2))
    assert x.mean().item() == pytest.approx(0.0, abs=0.015 * variance**0.5)
    assert x.var().item() == pytest.approx(variance, rel=0.018)  # four standard errors


def test_it_forgets_where_it_started() -> None:
    covariance = torch.tensor([[1.0, 0.6], [0.6, 0.5]], dtype=torch.float64)
    energy = Gaussian(torch.tensor([1.0, -2.0], dtype=torch.float64), covariance)
    start = torch.full((20_000, 2), 5.0, dtype=torch.float64)
    x = langevin(energy, start, steps=300, step_size=0.05, generator=_seeded())
    # of N(m, S) the stationary law is N(m, S (1 - h S^-1 / 4)^-1)
    eye = torch.eye(2, dtype=torch.float64)
    expected = torch.linalg.inv(torch.linalg.inv(covariance) @ (eye - 0.05 * torch.linalg.inv(covariance) / 4))
    torch.testing.assert_close(x.mean(0), energy.mean, rtol=0, atol=0.03)
    torch.testing.assert_close(torch.cov(x.T), expected, rtol=0, atol=0.05)


def test_without_noise_it_is_gradient_descent_by_half_steps() -> None:
    x = torch.randn(6, 1, 2, 2, dtype=torch.float64, generator=_seeded())
    moved = langevin(lambda v: _normal(v.flatten(1)), x, steps=7, step_size=0.4, noise=0.0)
    torch.testing.assert_close(moved, (1 - 0.2) ** 7 * x)


def test_noise_is_in_units_of_the_data() -> None:
    x = torch.zeros(50_000, 1, dtype=torch.float64)
    flat = lambda v: 0.0 * v.sum(1)  # noqa: E731
    for noise, expected in [(None, 0.3**0.5), (2.0, 2.0)]:
        moved = langevin(flat, x, steps=1, step_size=0.3, noise=noise, generator=_seeded())
        assert moved.std().item() == pytest.approx(expected, rel=0.015)


@pytest.mark.parametrize("grad", [True, False])
def test_it_leaves_rows_parameters_and_the_grad_mode_alone(grad: bool) -> None:
    energy, x = MLP(2, width=8, depth=1), torch.randn(5, 2)
    kept = x.clone()
    with torch.set_grad_enabled(grad):
        moved = langevin(energy, x, steps=3, step_size=0.1, generator=_seeded())
        assert torch.is_grad_enabled() == grad
    assert not moved.requires_grad and not x.requires_grad
    assert torch.equal(x, kept) and moved.data_ptr() != x.data_ptr()
    assert all(p.grad is None for p in energy.parameters())


def test_rows_that_carry_a_graph_are_not_differentiated_through() -> None:
    x = torch.randn(5, 2, requires_grad=True)
    moved = langevin(MLP(2, width=8, depth=1), x, steps=2, step_size=0.1, generator=_seeded())
    assert x.requires_grad and x.grad is None and not moved.requires_grad


def test_it_is_reproduced_by_the_generator_alone() -> None:
    energy, x = ConvNet(size=4, widths=(4,)), torch.randn(5, 1, 4, 4)
    before = torch.get_rng_state()
    first, again, other = (langevin(energy, x, steps=3, step_size=0.1, generator=_seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.shape == x.shape


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 0}, "steps must be a whole number above 0, got 0"),
        ({"step_size": 0.0}, "step_size must be a finite number above 0, got 0.0"),
        ({"noise": -1.0}, "noise must be a finite number of at least 0, got -1.0"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        langevin(_normal, torch.zeros(2, 1), **{"steps": 1, "step_size": 0.1, **options})


def test_what_is_no_energy_is_refused() -> None:
    x = torch.zeros(3, 2)
    with pytest.raises(ContractError, match="squeeze the last axis"):
        langevin(lambda v: v[:, :1], x, steps=1, step_size=0.1)
    with pytest.raises(ContractError, match="no gradient in the rows"):
        langevin(lambda v: v.detach().sum(1), x, steps=1, step_size=0.1)
    with pytest.raises(ContractError, match="no gradient in the rows"):
        langevin(lambda v: torch.ones(3, requires_grad=True), x, steps=1, step_size=0.1)
    with pytest.raises(ContractError, match=r"rows, which are torch.int64; convert them to floats"):
        langevin(_normal, x.long(), steps=1, step_size=0.1)
