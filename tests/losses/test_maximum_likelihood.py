"""Maximum likelihood: its value for whoever says that it is normalised, and its refusal of everybody else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from chainfree.checks import ContractError
from chainfree.energies import MLP, NICE, Gaussian, Tempered
from chainfree.losses import MaximumLikelihood


class Laplace(nn.Module):
    """Normalised, with a trainable location and scale."""

    normalised = True

    def __init__(self) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))
        self.log_scale = nn.Parameter(torch.tensor(-0.2, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return ((x[:, 0] - self.loc).abs() / self.log_scale.exp()) + self.log_scale + torch.tensor(2.0).log()


def test_an_energy_that_declares_itself_normalised_is_taken_at_its_word() -> None:
    energy, x = Laplace(), torch.randn(50, 1, dtype=torch.float64)
    output = MaximumLikelihood()(energy, x)
    scale = energy.log_scale.exp().item()
    expected = -stats.laplace(energy.loc.item(), scale).logpdf(x[:, 0].numpy()).mean()
    assert output.loss.item() == pytest.approx(expected, rel=1e-6)
    assert output.metrics["energy_data"].item() == pytest.approx(expected, rel=1e-6)
    output.loss.backward()
    assert energy.loc.grad is not None
    # the derivative in log-scale: 1 - mean |x - loc| / scale
    slope = 1 - (x[:, 0] - energy.loc).abs().mean().item() / scale
    assert energy.log_scale.grad is not None
    assert energy.log_scale.grad.item() == pytest.approx(slope)


def test_a_density_s_log_prob_is_used_and_not_its_bare_energy() -> None:
    covariance = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    x = torch.randn(50, 2, dtype=torch.float64)
    output = MaximumLikelihood()(Gaussian(torch.zeros(2, dtype=torch.float64), covariance), x)
    expected = -stats.multivariate_normal([0, 0], covariance.numpy()).logpdf(x.numpy()).mean()
    assert output.loss.item() == pytest.approx(expected)


class Undeclared(MLP):
    normalised = False


@pytest.mark.parametrize("energy", [MLP(2), lambda x: x.sum(1), Tempered(NICE(2, width=4), 2.0), Undeclared(2)])
def test_others_are_refused_in_one_line_with_the_remedy(energy: Any) -> None:
    with pytest.raises(TypeError, match=r"needs a normalised energy.*EnergyDiscrepancy, or set its attribute") as error:
        MaximumLikelihood()(energy, torch.zeros(3, 2))
    assert "\n" not in str(error.value)


def test_a_shape_out_of_contract_is_refused() -> None:
    class Wrong(nn.Linear):
        normalised = True

    unwrapped: Any = torch.distributions.Normal(torch.zeros(2), torch.ones(2))
    with pytest.raises(ContractError, match="squeeze the last axis"):
        MaximumLikelihood()(Wrong(2, 1), torch.zeros(3, 2))
    with pytest.raises(ContractError, match="Independent"):
        MaximumLikelihood()(unwrapped, torch.zeros(3, 2))
