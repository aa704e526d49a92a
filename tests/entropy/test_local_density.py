"""A generator's density at its own samples, against closed forms, and quadrature where it is curved."""

from __future__ import annotations

import pytest
import torch

from chainfree.entropy import local_log_prob
from chainfree.generators import DeconvGenerator, LinearGenerator, ResidualGenerator
from chainfree.generators.base import log_prior


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("dim", "latent"), [(5, 3), (3, 3), (2, 6), (1, 1)])
def test_it_is_exact_for_linear_generators(dim: int, latent: int) -> None:
    weight = torch.randn(dim, latent, dtype=torch.float64, generator=_seeded())
    net = LinearGenerator(weight, torch.arange(dim).double(), sigma=0.2)
    draw = net.sample(50, generator=_seeded(1))
    found = local_log_prob(net, draw)
    assert not found.requires_grad
    torch.testing.assert_close(found, net.log_prob(draw.x).detach(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("sigma", "error"), [(0.05, 0.03), (0.1, 0.06)])
def test_on_a_curved_generator_it_is_near_the_quadrature(sigma: float, error: float) -> None:
    torch.manual_seed(0)
    net = ResidualGenerator(1, 2, width=16, depth=1, sigma=sigma).double()
    with torch.no_grad():
        net.perceptron[-1].weight.mul_(30)  # type: ignore[operator,union-attr]
    draw = net.sample(200, generator=_seeded(1))
    grid = torch.linspace(-8, 8, 40_001, dtype=torch.float64).unsqueeze(1)
    with torch.no_grad():
        mean, x = net(grid), draw.x.detach()
        log_joint = log_prior(grid) + net.log_likelihood(x.unsqueeze(1), mean)
        exact = torch.logsumexp(log_joint, dim=1) + torch.log(grid[1, 0] - grid[0, 0])
    assert float((local_log_prob(net, draw) - exact).abs().median()) < error


def test_batch_statistics_are_the_draw_s() -> None:
    torch.manual_seed(0)
    net = DeconvGenerator(4, size=8, widths=(4,)).double()
    draw = net.sample(6, generator=_seeded())
    before = local_log_prob(net, draw)
    running = {name: buffer.clone() for name, buffer in net.named_buffers()}
    net.sample(6, generator=_seeded(1))  # moves the running averages, which are not looked at
    torch.testing.assert_close(local_log_prob(net, draw), before)
    assert any(not torch.equal(buffer, running[name]) for name, buffer in net.named_buffers())


def test_rows_do_not_touch_each_other() -> None:
    net = ResidualGenerator(3, 3).double()
    draw = net.sample(8, generator=_seeded())
    torch.testing.assert_close(local_log_prob(net, draw)[:3], local_log_prob(net, draw.first(3)))
