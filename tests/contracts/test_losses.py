"""Every loss keeps the protocol of `chainfree.typing.Loss`."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from chainfree import losses
from chainfree.checks import ContractError
from chainfree.energies import MLP
from chainfree.losses import EnergyDiscrepancy
from chainfree.perturbations import Gaussian, LogUniform, OrnsteinUhlenbeck
from chainfree.typing import Loss, LossOutput

CASES: dict[str, Loss] = {
    "energy-discrepancy": EnergyDiscrepancy(),
    "energy-discrepancy-unstabilised": EnergyDiscrepancy(w=0.0, draws=8),
    "energy-discrepancy-chunked": EnergyDiscrepancy(draws=9, chunk=2),
    "energy-discrepancy-all-scales": EnergyDiscrepancy(perturbation=Gaussian(t=LogUniform(low=0.01, high=10.0))),
    "energy-discrepancy-diffusion": EnergyDiscrepancy(perturbation=OrnsteinUhlenbeck()),
}


@pytest.fixture(params=CASES, ids=str)
def loss(request: pytest.FixtureRequest) -> Loss:
    return CASES[request.param]


@pytest.fixture
def energy() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MLP(2, width=8, depth=2)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(12, 2, generator=torch.Generator().manual_seed(1))


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_no_loss_is_left_out() -> None:
    assert set(losses.__all__) == {type(loss).__name__ for loss in CASES.values()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_scalar_with_a_graph_and_detached_metrics(
    loss: Loss, energy: nn.Module, x: Tensor, dtype: torch.dtype
) -> None:
    output = loss(energy.to(dtype), x.to(dtype), generator=_seeded())
    assert isinstance(output, LossOutput)
    assert output.loss.shape == ()
    assert output.loss.dtype == dtype
    assert output.loss.requires_grad
    assert output.metrics
    for name, value in output.metrics.items():
        assert value.shape == (), name
        assert not value.requires_grad, name
        assert torch.isfinite(value), name


def test_gradients_flow_to_every_weight_and_not_to_the_caller_s_rows(loss: Loss, energy: nn.Module, x: Tensor) -> None:
    kept = x.clone()
    loss(energy, x, generator=_seeded()).loss.backward()
    assert not x.requires_grad
    assert torch.equal(x, kept)
    for name, parameter in energy.named_parameters():
        if name != "layers.4.bias":  # losses do not see the energy's constant
            assert parameter.grad is not None
            assert bool((parameter.grad != 0).any()), name
    assert energy.layers[4].bias.grad.abs().item() < 1e-6


def test_gradients_are_those_of_finite_differences(loss: Loss, energy: nn.Module, x: Tensor) -> None:
    energy, x = energy.double(), x.double()
    loss(energy, x, generator=_seeded()).loss.backward()
    h = 1e-5
    for parameter in energy.parameters():
        assert parameter.grad is not None
        along = torch.randn(parameter.shape, dtype=torch.float64, generator=_seeded(7))
        with torch.no_grad():
            parameter.add_(h * along)
            up = loss(energy, x, generator=_seeded()).loss
            parameter.sub_(2 * h * along)
            down = loss(energy, x, generator=_seeded()).loss
            parameter.add_(h * along)
        torch.testing.assert_close((parameter.grad * along).sum(), (up - down) / (2 * h), rtol=1e-4, atol=1e-8)


def test_the_same_seed_is_the_same_loss(loss: Loss, energy: nn.Module, x: Tensor) -> None:
    before = torch.get_rng_state()
    first, second, other = (loss(energy, x, generator=_seeded(seed)).loss for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_without_gradients_it_is_the_same_number(loss: Loss, energy: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        quiet = loss(energy, x, generator=_seeded())
    assert not quiet.loss.requires_grad
    torch.testing.assert_close(quiet.loss, loss(energy, x, generator=_seeded()).loss.detach())


def test_a_constant_in_the_energy_changes_nothing(loss: Loss, energy: nn.Module, x: Tensor) -> None:
    energy, x = energy.double(), x.double()
    plain = loss(energy, x, generator=_seeded()).loss
    shifted = loss(lambda rows: energy(rows) + 1e3, x, generator=_seeded()).loss
    torch.testing.assert_close(shifted, plain, rtol=1e-9, atol=1e-9)


def test_an_energy_out_of_shape_is_refused(loss: Loss, x: Tensor) -> None:
    with pytest.raises(ContractError, match="squeeze the last axis"):
        loss(nn.Linear(2, 1), x, generator=_seeded())
    with pytest.raises(ContractError, match="one number for the whole batch"):
        loss(lambda rows: rows.mean(), x, generator=_seeded())
