"""Energies made of energies, against algebra and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor, nn

from chainfree.checks import ContractError, energy_values
from chainfree.energies import (
    MLP,
    ConvNet,
    FourierMLP,
    Gaussian,
    GaussianMixture,
    Mixture,
    ResNet,
    Sum,
    Tempered,
    Tilted,
)


def _normal(mean: float, variance: float) -> Gaussian:
    return Gaussian(torch.tensor([mean], dtype=torch.float64), torch.tensor([[variance]], dtype=torch.float64))


X = torch.linspace(-3, 4, 15, dtype=torch.float64).unsqueeze(1)


def test_a_product_of_normals_is_the_normal_of_added_precisions() -> None:
    product = Sum([_normal(-1.0, 0.5), _normal(2.0, 2.0)], weights=[1.5, 0.4])
    precision = 1.5 / 0.5 + 0.4 / 2.0
    mean = (1.5 / 0.5 * -1.0 + 0.4 / 2.0 * 2.0) / precision
    expected = stats.norm(mean, 1 / math.sqrt(precision)).logpdf(X[:, 0].numpy())
    difference = -product(X).numpy() - expected
    np.testing.assert_allclose(difference, difference[0], atol=1e-12)


def test_a_sum_takes_plain_functions_and_defaults_to_ones() -> None:
    total = Sum([lambda x: x[:, 0], lambda x: x[:, 0] ** 2])
    torch.testing.assert_close(total(X), X[:, 0] + X[:, 0] ** 2)


def test_a_mixture_of_normals_equals_scipy() -> None:
    first, second = _normal(-1.0, 0.5), _normal(2.0, 2.0)
    mixture = Mixture([first, second], weights=[3.0, 1.0])
    z1, z2 = math.sqrt(2 * math.pi * 0.5), math.sqrt(2 * math.pi * 2.0)
    p1, p2 = stats.norm(-1, math.sqrt(0.5)), stats.norm(2, math.sqrt(2))
    v = X[:, 0].numpy()
    np.testing.assert_allclose(mixture(X), -np.log(0.75 * z1 * p1.pdf(v) + 0.25 * z2 * p2.pdf(v)), rtol=1e-6, atol=1e-7)
    # the shares of the mass are pi_k Z_k, as it says
    mass, _ = integrate.quad(lambda u: math.exp(-float(mixture(torch.tensor([[u]], dtype=torch.float64)))), -12, 12)
    assert mass == pytest.approx(0.75 * z1 + 0.25 * z2, rel=1e-6)


def test_an_equal_mixture_of_the_same_energy_is_that_energy_even_far_out() -> None:
    energy = _normal(0.0, 1.0)
    far = torch.tensor([[500.0], [-1e4]], dtype=torch.float64)
    torch.testing.assert_close(Mixture([energy] * 3)(far), energy(far))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_temperature_scales_the_variance(temperature: float) -> None:
    energy = Tempered(_normal(0.7, 1.3), temperature)
    expected = stats.norm(0.7, math.sqrt(1.3 * temperature)).logpdf(X[:, 0].numpy())
    difference = -energy(X).numpy() - expected
    np.testing.assert_allclose(difference, difference[0], atol=1e-12)


def test_composed_energies_train_their_parts() -> None:
    inside = MLP(1, width=4, depth=1).double()
    for composed in (Sum([inside, lambda x: x[:, 0]]), Mixture([inside, _normal(0.0, 1.0)]), Tempered(inside, 2.0)):
        assert {id(p) for p in inside.parameters()} <= {id(p) for p in composed.parameters()}
        inside.zero_grad()
        composed(X).sum().backward()
        assert all(p.grad is not None for p in inside.parameters())


def test_parts_are_held_to_the_contract() -> None:
    for composed in (Sum([nn.Linear(1, 1)]), Mixture([nn.Linear(1, 1)]), Tempered(nn.Linear(1, 1), 1.0)):
        with pytest.raises(ContractError, match="squeeze"):
            composed(torch.zeros(4, 1))


def test_weights_that_do_not_fit_are_refused() -> None:
    energy = _normal(0.0, 1.0)
    for kind in (Sum, Mixture):
        with pytest.raises(ValueError, match="2 energies need as many weights"):
            kind([energy, energy], weights=[1.0])
        with pytest.raises(ValueError, match="at least one"):
            kind([])
    for bad in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="weights must"):
            Mixture([energy, energy], weights=[1.0, bad])
        with pytest.raises(ValueError, match="temperature must"):
            Tempered(energy, bad)


# tilting -------------------------------------------------------------------------------------------------------------


class _StandardImages:
    """A density of images."""

    def log_prob(self, x: Tensor) -> Tensor:
        return -0.5 * x.flatten(1).square().sum(1)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        return torch.randn(n, 1, 8, 8, generator=generator)


@pytest.mark.parametrize(
    "network",
    [
        lambda: MLP(2),
        lambda: MLP(2, spectral_norm=True),
        lambda: FourierMLP(2),
        lambda: ConvNet(size=8, widths=(4,)),
        lambda: ResNet(widths=(4, 8), blocks=1),
        lambda: ResNet(widths=(4,), blocks=1, spectral_norm=True),
    ],
    ids=["mlp", "mlp-spectral", "fourier", "conv", "resnet", "resnet-spectral"],
)
def test_tilting_starts_at_the_base_and_learns(network: type[nn.Module]) -> None:
    torch.manual_seed(0)
    module = network()
    images = isinstance(module, ConvNet | ResNet)
    base = _StandardImages() if images else GaussianMixture(torch.tensor([[0.0, 1.0], [2.0, -1.0]]), 0.5)
    x = base.sample(6)
    tilted = Tilted(base, module)
    assert torch.equal(tilted(x), -base.log_prob(x))
    tilted(x).square().sum().backward()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.sub_(0.1 * (parameter.grad if parameter.grad is not None else 0))
    tilted.eval()  # a training forward moves the power iteration of spectral norm on
    torch.testing.assert_close(tilted(x), module(x) - base.log_prob(x))
    assert not torch.allclose(tilted(x), -base.log_prob(x))


def test_the_base_is_not_trained() -> None:
    class Learnable(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mean = nn.Parameter(torch.zeros(2))

        def log_prob(self, x: Tensor) -> Tensor:
            return -(x - self.mean).square().sum(-1)

        def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
            return self.mean + torch.randn(n, 2, generator=generator)

    tilted = Tilted(Learnable(), MLP(2))
    assert not tilted.base.mean.requires_grad
    assert "base.mean" in tilted.state_dict()


def test_a_torch_distribution_is_a_base() -> None:
    base = torch.distributions.MultivariateNormal(torch.zeros(3), torch.eye(3))
    x = torch.randn(4, 3)
    np.testing.assert_allclose(
        Tilted(base, MLP(3))(x).detach(), -stats.multivariate_normal(np.zeros(3)).logpdf(x), rtol=1e-5
    )


def test_a_base_without_a_density_is_refused() -> None:
    with pytest.raises(TypeError, match=r"must be a density with log_prob\(x\), got a MLP"):
        Tilted(MLP(2), MLP(2))
    with pytest.raises(TypeError, match="got a NoneType"):
        Tilted(None, MLP(2))  # type: ignore[arg-type]


@pytest.mark.parametrize("rows", [2, 3])
def test_a_base_with_a_number_per_feature_is_refused_when_used(rows: int) -> None:
    """A factorised torch.distributions.Normal: `Independent` was forgotten."""
    tilted = Tilted(torch.distributions.Normal(torch.zeros(2), torch.ones(2)), MLP(2))
    with pytest.raises((ContractError, RuntimeError)):
        energy_values(tilted, torch.zeros(rows, 2))


def test_bf16_leaves_the_base_and_the_last_sum_exact() -> None:
    """Contrasts are differences of energies of size 100: three digits would leave nothing of them."""
    torch.manual_seed(0)
    x = torch.randn(64, 8)
    base = Gaussian(torch.zeros(8), torch.eye(8) * 0.04)
    tilted = Tilted(base, MLP(8, width=16))
    with torch.no_grad():
        tilted.network.layers[-1].bias.fill_(90.0)
        exact = tilted(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = tilted(x)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, exact, atol=1e-3, rtol=0)
