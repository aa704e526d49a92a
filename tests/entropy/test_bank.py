"""The bank of means: a mixture whose entropy is known by quadrature."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from chainfree.entropy import PriorBank
from chainfree.generators import Draw, LatentGenerator, LinearGenerator


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Fold(LatentGenerator):
    """A line folded over itself: two sheets, which only a bank sees together."""

    def __init__(self, sigma: float = 0.3) -> None:
        super().__init__(1, (1,), sigma=sigma)
        self.shape = nn.Parameter(torch.tensor([1.0, 1.5, 0.4], dtype=torch.float64))
        self.double()
        with torch.no_grad():
            self.log_sigma.fill_(math.log(sigma))

    def forward(self, z: Tensor) -> Tensor:
        a, b, c = self.shape
        return a * torch.cos(b * z) + c * z


def test_values_are_the_mixture_s_negative_log_density() -> None:
    net = LinearGenerator(torch.randn(3, 2, dtype=torch.float64, generator=_seeded(5)), sigma=0.3)
    draw = net.sample(7, generator=_seeded())
    for extra in (0, 5):
        estimate = PriorBank(extra=extra)(net, draw, generator=_seeded(1))
        latents = torch.cat([draw.z, torch.randn(extra, 2, dtype=torch.float64, generator=_seeded(1))])
        means = net(latents).detach().numpy()
        kernels = [stats.multivariate_normal(m, 0.09 * np.eye(3)).logpdf(draw.x.detach().numpy()) for m in means]
        expected = -(special.logsumexp(kernels, axis=0) - math.log(len(means)))
        np.testing.assert_allclose(estimate.surrogate.detach(), expected, rtol=1e-8)
        assert float(estimate.metrics["entropy"]) == pytest.approx(expected.mean())


def test_it_is_differentiated_in_everything() -> None:
    """In the samples and in the means, whose part is zero only on average."""
    net = LinearGenerator(torch.randn(3, 2, dtype=torch.float64, generator=_seeded(5)), sigma=0.3)
    draw = net.sample(7, generator=_seeded())
    parts = Independent(Normal(draw.mean, net.sigma), 1)
    mixture = MixtureSameFamily(Categorical(logits=torch.zeros(7, dtype=torch.float64)), parts)
    parameters = tuple(net.parameters())
    expected = torch.autograd.grad(-mixture.log_prob(draw.x).mean(), parameters, retain_graph=True)
    mine = torch.autograd.grad(PriorBank()(net, draw).surrogate.mean(), parameters)
    for one, other in zip(mine, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


def test_the_mean_value_is_the_mixture_s_entropy() -> None:
    """One sample of every component is a draw of the mixture, so noise alone is averaged over."""
    net = Fold()
    z = torch.randn(5, 1, dtype=torch.float64, generator=_seeded())
    means = net(z).detach()
    density = lambda x: stats.norm.pdf(x, means[:, 0].numpy(), 0.3).mean()  # noqa: E731
    expected, _ = integrate.quad(lambda x: -special.xlogy(density(x), density(x)), -5, 5, limit=200)
    values = []
    for seed in range(4000):
        noise = torch.randn(5, 1, dtype=torch.float64, generator=_seeded(seed))
        values.append(float(PriorBank()(net, Draw(means + 0.3 * noise, z, means, noise)).metrics["entropy"]))
    assert abs(np.mean(values) - expected) < 4.5 * np.std(values) / math.sqrt(4000)
    assert np.std(values) / math.sqrt(4000) < 0.01


def _exact(net: Fold) -> Tensor:
    """Central differences of the entropy by quadrature, in the shape's numbers and log sigma."""
    z = torch.linspace(-7, 7, 801, dtype=torch.float64)[:, None]
    mass = torch.softmax(-0.5 * z[:, 0].square(), 0)
    x = torch.arange(-9, 9, 0.05, dtype=torch.float64)[:, None]

    @torch.no_grad()
    def entropy() -> float:
        kernels = torch.distributions.Normal(net(z)[:, 0], net.sigma).log_prob(x).exp()
        density = kernels @ mass
        return float(-torch.xlogy(density, density).sum()) * 0.05

    found = []
    for parameter, number in [(net.shape, 0), (net.shape, 1), (net.shape, 2), (net.log_sigma, None)]:
        values = []
        for step in (1e-4, -1e-4):
            part = parameter.data if number is None else parameter.data[number : number + 1]
            part += step
            values.append(entropy())
            part -= step
        found.append((values[0] - values[1]) / 2e-4)
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize("extra", [0, 600])
def test_the_mean_gradient_is_the_entropy_s(extra: int) -> None:
    net = Fold()
    exact, rows = _exact(net), []
    for seed in range(40):
        draw = net.sample(600, generator=_seeded(2 * seed))
        surrogate = PriorBank(extra=extra)(net, draw, generator=_seeded(2 * seed + 1)).surrogate.mean()
        shape, scale = torch.autograd.grad(surrogate, (net.shape, net.log_sigma))
        rows.append(torch.cat([shape, scale[None]]))
    found = torch.stack(rows)
    error = found.std(0) / math.sqrt(len(rows))
    assert (error < 0.04 * exact.norm()).all()
    # a bank of B is short of the generator by a share of about 1 / B
    assert ((found.mean(0) - exact).abs() < 4.5 * error + 0.01 * exact.norm()).all()


def test_a_larger_bank_sees_more_of_the_entropy() -> None:
    """A mixture of few draws has less entropy than the generator; with more it comes near, from below."""
    net = LinearGenerator(torch.ones(1, 1, dtype=torch.float64), sigma=0.1)
    exact = float(net.entropy().detach())
    means = []
    for bank in (4, 30, 1000):
        values = [
            float(PriorBank()(net, net.sample(bank, generator=_seeded(seed))).metrics["entropy"])
            for seed in range(max(20, 2000 // bank))
        ]
        means.append(float(np.mean(values)))
    assert means[0] < means[1] - 0.1 < means[2] - 0.1
    assert means[2] == pytest.approx(exact, abs=0.03)
