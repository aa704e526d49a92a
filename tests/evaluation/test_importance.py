"""log Z by importance sampling against closed forms and its own spread."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import special
from torch import Tensor

from chainfree.energies import AnalyticEnergy, DoubleWell, Funnel, Gaussian, Ring
from chainfree.evaluation import LogZ, log_z_importance


@pytest.mark.parametrize(
    ("energy", "proposal"),
    [
        (Gaussian([0.5, 0.0, 0.0, 0.0, 0.0]), Gaussian([0.0] * 5, 1.7 * torch.eye(5))),
        (DoubleWell(2, barrier=2.0), Gaussian([0.0, 0.0], torch.diag(torch.tensor([1.5, 1.3])))),
        (Ring((1.0,), noise=0.4), Gaussian([0.0, 0.0], 1.5 * torch.eye(2))),
        (Funnel(2, scale=0.5), Gaussian([0.0, 0.0], torch.diag(torch.tensor([0.5, 3.0])))),
    ],
    ids=["gaussian-5", "double-well", "ring", "funnel"],
)
def test_importance_sampling_covers_the_truth(
    energy: AnalyticEnergy, proposal: AnalyticEnergy, generator: torch.Generator
) -> None:
    result = log_z_importance(energy, proposal, samples=70_000, generator=generator)  # more than one portion
    assert 0 < result.standard_error < 0.02
    assert abs(result.value - energy.log_z) < 4 * result.standard_error
    assert 1000 < result.effective_sample_size < 70_000


def test_importance_sampling_from_the_density_itself_is_exact(generator: torch.Generator) -> None:
    energy = Gaussian(torch.tensor([0.3, 1.0]).double(), torch.tensor([[2.0, 0.5], [0.5, 1.0]]).double())
    result = log_z_importance(energy, energy, samples=500, generator=generator)
    assert result.value == pytest.approx(energy.log_z, abs=1e-12)
    assert result.standard_error == pytest.approx(0.0, abs=1e-6)
    assert result.effective_sample_size == pytest.approx(500)


def test_the_numbers_are_those_of_the_weights() -> None:
    energy, proposal = DoubleWell(1, barrier=1.0).double(), Gaussian(torch.zeros(1).double())
    result = log_z_importance(energy, proposal, samples=300, generator=torch.Generator().manual_seed(0))
    x = proposal.sample(300, generator=torch.Generator().manual_seed(0))
    weights = np.exp(-energy(x).numpy() - proposal.log_prob(x).numpy())
    assert result.value == pytest.approx(math.log(weights.mean()), rel=1e-10)
    assert result.effective_sample_size == pytest.approx(weights.sum() ** 2 / (weights**2).sum(), rel=1e-10)
    # the delta method: standard error of the mean over the mean
    assert result.standard_error == pytest.approx(weights.std(ddof=1) / math.sqrt(300) / weights.mean(), rel=1e-8)


def test_the_standard_error_is_the_spread_over_repeats(generator: torch.Generator) -> None:
    energy, proposal = Gaussian([0.0]), Gaussian([0.7], torch.tensor([[1.5]]))
    repeats = [log_z_importance(energy, proposal, samples=1500, generator=generator) for _ in range(300)]
    values = np.array([r.value for r in repeats])
    # 300 repeats know their spread to within four percent
    assert values.std(ddof=1) == pytest.approx(np.mean([r.standard_error for r in repeats]), rel=0.15)
    z = (values - energy.log_z) / np.array([r.standard_error for r in repeats])
    assert 0.91 < np.mean(np.abs(z) < 1.96) < 0.985


def test_importance_sampling_survives_large_constants(generator: torch.Generator) -> None:
    base = Gaussian(torch.zeros(1).double())
    result = log_z_importance(lambda x: base(x) + 1e4, base, samples=100, generator=generator)
    assert result.value == pytest.approx(base.log_z - 1e4, abs=1e-6)


def test_a_bounded_support_is_no_obstacle(generator: torch.Generator) -> None:
    def box(x: Tensor) -> Tensor:
        return torch.where(x[:, 0].abs() < 1, 0.0, math.inf)

    result = log_z_importance(box, Gaussian([0.0]), samples=20_000, generator=generator)
    assert abs(result.value - math.log(2)) < 4 * result.standard_error
    assert result.effective_sample_size < 20_000 * special.erf(1 / math.sqrt(2)) * 1.05


@pytest.mark.parametrize(
    "energy",
    [
        lambda x: torch.full_like(x[:, 0], math.nan),
        lambda x: torch.full_like(x[:, 0], math.inf),
        pytest.param(lambda x: torch.where(x[:, 0] > 1, -math.inf, 0.0)),
    ],
    ids=["nan", "all-zero-weights", "infinite-weights"],
)
def test_weights_that_are_none_are_refused(energy: Callable[[Tensor], Tensor], generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match="weights"):
        log_z_importance(energy, Gaussian([0.0]), samples=100, generator=generator)


def test_one_sample_has_no_spread_and_is_refused() -> None:
    with pytest.raises(ValueError, match="samples must be at least 2, got 1"):
        log_z_importance(Gaussian([0.0]), Gaussian([0.0]), samples=1)


def test_the_result_is_a_record() -> None:
    assert LogZ(1.0, 0.1, 5.0) == LogZ(value=1.0, standard_error=0.1, effective_sample_size=5.0)
