"""The loss class: that it is the mean of the function, and what it refuses."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scipy import optimize

from chainfree.energies import MLP
from chainfree.functional import energy_discrepancy
from chainfree.losses import EnergyDiscrepancy
from chainfree.perturbations import Gaussian, OrnsteinUhlenbeck


@pytest.mark.parametrize("chunk", [None, 3])
def test_it_is_the_mean_of_the_function_with_every_option_passed_on(chunk: int | None) -> None:
    energy = MLP(2, width=8, depth=1)
    x = torch.randn(9, 2, generator=torch.Generator().manual_seed(0))
    perturbation = OrnsteinUhlenbeck(time=0.4)
    loss = EnergyDiscrepancy(perturbation=perturbation, draws=7, w=0.3, chunk=chunk)
    output = loss(energy, x, generator=torch.Generator().manual_seed(1))
    result = energy_discrepancy(
        energy, x, perturbation=perturbation, draws=7, w=0.3, chunk=chunk, generator=torch.Generator().manual_seed(1)
    )
    torch.testing.assert_close(output.loss, result.values.mean(), rtol=0, atol=0)
    torch.testing.assert_close(output.metrics["loss"], output.loss.detach())
    torch.testing.assert_close(output.metrics["energy_data"], energy(x).mean().detach())
    torch.testing.assert_close(output.metrics["energy_draws"], result.draw_energy.mean().detach())


def test_the_defaults_are_unit_variance_four_draws_and_w_one() -> None:
    energy = MLP(2, width=8, depth=1)
    x = torch.randn(9, 2)
    default = EnergyDiscrepancy()(energy, x, generator=torch.Generator().manual_seed(1)).loss
    spelt = energy_discrepancy(
        energy, x, perturbation=Gaussian(t=1.0), draws=4, w=1.0, generator=torch.Generator().manual_seed(1)
    )
    assert torch.equal(default, spelt.values.mean())


def test_a_constant_energy_costs_log_of_one_plus_w_over_m() -> None:
    output = EnergyDiscrepancy(draws=4, w=2.0)(lambda x: 0 * x[:, 0] + 3.0, torch.randn(5, 2))
    assert output.loss.item() == pytest.approx(math.log(1 + 2 / 4))


def test_minimising_it_finds_mean_and_variance_of_normal_data(generator: torch.Generator) -> None:
    x = 1.5 + 0.7 * torch.randn(20_000, 1, generator=generator, dtype=torch.float64)
    loss = EnergyDiscrepancy(draws=8)

    def value_and_gradient(parameters: Any) -> tuple[float, Any]:
        theta = torch.tensor(parameters, dtype=torch.float64, requires_grad=True)
        value = loss(
            lambda rows: 0.5 * (rows[:, 0] - theta[0]).square() * theta[1].exp(),
            x,
            generator=torch.Generator().manual_seed(2),
        ).loss
        (gradient,) = torch.autograd.grad(value, theta)
        return value.item(), gradient.numpy()

    found = optimize.minimize(value_and_gradient, [0.0, 0.0], jac=True, method="L-BFGS-B")
    mean, variance = found.x[0], math.exp(-found.x[1])
    assert mean == pytest.approx(1.5, abs=0.03)
    assert variance == pytest.approx(0.49, abs=0.03)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"draws": 0}, "draws must be a whole number above 0, got 0"),
        ({"draws": 1.5}, "draws must"),
        ({"w": -1.0}, "w must be a finite number of at least 0, got -1.0"),
        ({"w": math.nan}, "w must"),
        ({"chunk": 0}, "chunk must be a whole number above 0, got 0"),
    ],
)
def test_options_are_checked_when_it_is_made(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        EnergyDiscrepancy(**options)


def test_options_are_keywords_and_it_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        EnergyDiscrepancy(Gaussian())  # type: ignore[misc]
    with pytest.raises(AttributeError):
        EnergyDiscrepancy().draws = 5  # type: ignore[misc]
