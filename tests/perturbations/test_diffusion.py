"""The variance-preserving diffusion against its law, and against the Gaussian perturbation it is another form of."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from chainfree.functional import energy_discrepancy
from chainfree.perturbations import Gaussian, OrnsteinUhlenbeck


@pytest.mark.parametrize("time", [0.1, 1.0, 3.0])
def test_variance_is_preserved_and_the_mean_shrinks(time: float, generator: torch.Generator) -> None:
    perturbation = OrnsteinUhlenbeck(time=time)
    unit = torch.randn(20_000, 1, generator=generator, dtype=torch.float64)
    y = perturbation.perturb(unit, generator=generator).y
    assert stats.kstest(y.flatten().numpy(), "norm").pvalue > 1e-3
    fixed = perturbation.perturb(torch.full((20_000, 1), 5.0, dtype=torch.float64), generator=generator).y
    law = stats.norm(5 * math.exp(-time / 2), math.sqrt(1 - math.exp(-time)))
    assert stats.kstest(fixed.flatten().numpy(), law.cdf).pvalue > 1e-3


@pytest.mark.parametrize("time", [0.3, 1.5])
def test_a_draw_back_is_as_far_as_under_gaussian_noise(time: float, generator: torch.Generator) -> None:
    """x' given x is N(x, 2t) with t = e^s - 1, and x' given y is N(e^{s/2} y, t)."""
    perturbation, t = OrnsteinUhlenbeck(time=time), math.expm1(time)
    x = torch.full((8000, 1), -1.7, dtype=torch.float64)
    perturbed = perturbation.perturb(x, generator=generator)
    recovered = perturbation.recover(perturbed, 2, generator=generator)
    # one draw of each row: two of the same row share their y
    assert stats.kstest(recovered[0].flatten().numpy(), stats.norm(-1.7, math.sqrt(2 * t)).cdf).pvalue > 1e-3
    noise = (recovered - math.exp(time / 2) * perturbed.y).flatten().numpy()
    assert stats.kstest(noise, stats.norm(0, math.sqrt(t)).cdf).pvalue > 1e-3


def test_energy_discrepancy_is_that_of_gaussian_noise(generator: torch.Generator) -> None:
    time = 0.8

    def energy(x: Tensor) -> Tensor:
        return 0.7 * x[:, 0] ** 2 + torch.sin(2 * x[:, 0])

    x = torch.randn(20_000, 1, generator=generator, dtype=torch.float64)
    one, other = (
        energy_discrepancy(energy, x, perturbation=q, draws=8, generator=generator).values
        for q in (OrnsteinUhlenbeck(time=time), Gaussian(t=math.expm1(time)))
    )
    assert stats.ks_2samp(one.numpy(), other.numpy()).pvalue > 1e-3
    difference = one - other
    error = float(difference.std()) / math.sqrt(len(x))
    assert error < 0.01
    assert abs(float(difference.mean())) < 4 * error
    # the test would see the neighbouring mistake, t = s
    wrong = energy_discrepancy(energy, x, perturbation=Gaussian(t=time), draws=8, generator=generator).values
    assert abs(float((one - wrong).mean())) > 6 * error


@pytest.mark.parametrize("time", [0.0, -1.0, math.inf, math.nan])
def test_times_that_are_none_are_refused(time: float) -> None:
    with pytest.raises(ValueError, match="time must be a finite number above 0"):
        OrnsteinUhlenbeck(time=time)
