"""Hamiltonian Monte Carlo leaves posteriors as they are, and in the long run its gradients are right."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from chainfree.entropy import HMCPosterior
from chainfree.generators import LatentGenerator, LinearGenerator, MLPGenerator


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=_seeded(seed))


def _linear(dim: int = 3, latent: int = 2) -> LinearGenerator:
    return LinearGenerator(_normal(dim, latent, seed=5), _normal(dim, seed=6), sigma=0.3)


def _bent() -> LatentGenerator:
    net = MLPGenerator(1, 1, width=8, depth=1, activation="tanh", sigma=0.3)
    with torch.no_grad():
        net.layers[0].weight.mul_(4)
        net.layers[-1].weight.mul_(4)
    return net.double()


def _kept(transitions: int, step_size: float, **options: int) -> HMCPosterior:
    """Its reconstruction is g at the last state."""
    return HMCPosterior(burn_in=transitions - 1, keep=1, step_size=step_size, target=0.7, **options).double()


@pytest.mark.parametrize("transitions", [1, 6])
def test_a_linear_generator_s_posterior_is_left_invariant(transitions: int) -> None:
    net = _linear(2, 2)
    draw = net.sample(8000, generator=_seeded())
    hmc = _kept(transitions, 0.5, leapfrog=3)
    with torch.no_grad():
        reached = hmc.reconstruct(net, draw, _seeded(1)).values
        z = torch.linalg.solve(net.weight, (reached - net.bias).T).T
        away = z - net.posterior_mean(draw.x)
        precision = torch.eye(2) + net.weight.T @ net.weight / net.sigma.square()
    acceptance = float(hmc(net, draw, generator=_seeded(2)).metrics["acceptance"])
    assert 0.4 < acceptance < 0.95  # the correction is put to use
    white = (away @ torch.linalg.cholesky(precision)).numpy()
    for column in white.T:
        assert stats.kstest(column, "norm").pvalue > 1e-3
    assert np.abs(np.cov(white.T) - np.eye(2)).max() < 5 * math.sqrt(2 / 8000)
    moved = (z - draw.z).norm(dim=1) > 1e-9
    assert 0.4 < float(moved.double().mean()) <= 1


def test_a_curved_generator_s_posterior_is_left_invariant() -> None:
    """Then x less the mean that was reached is the noise's law, independent of that mean."""
    net = _bent()
    draw = net.sample(8000, generator=_seeded())
    hmc = _kept(3, 0.25, leapfrog=3)
    reached = hmc.reconstruct(net, draw, _seeded(1)).values
    assert not reached.requires_grad
    noise = ((draw.x.detach() - reached) / net.sigma.detach())[:, 0].numpy()
    assert stats.kstest(noise, "norm").pvalue > 1e-3
    assert (
        stats.ks_2samp(reached[:, 0].numpy(), net.sample(8000, generator=_seeded(3)).mean.detach()[:, 0]).pvalue > 1e-3
    )
    low = reached[:, 0].numpy() < np.median(reached.numpy())
    assert stats.ks_2samp(noise[low], noise[~low]).pvalue > 1e-3
    assert 0.4 < float(hmc(net, draw, generator=_seeded(2)).metrics["acceptance"]) < 0.95


@pytest.mark.parametrize("start", [0.04, 1.2])
def test_the_step_adapts_to_the_acceptance_that_is_aimed_at(start: float) -> None:
    net = _linear()
    hmc = HMCPosterior(burn_in=0, keep=100, leapfrog=3, step_size=start, target=0.67)
    draw = net.sample(40, generator=_seeded())
    first = float(hmc(net, draw, generator=_seeded(1)).metrics["acceptance"])
    for seed in range(2, 6):
        metrics = hmc(net, draw, generator=_seeded(seed)).metrics
    assert abs(first - 0.67) > 0.1
    assert float(metrics["acceptance"]) == pytest.approx(0.67, abs=0.06)
    assert torch.equal(metrics["hmc_step_size"], hmc.step_size)
    assert metrics["hmc_step_size"] is not hmc.step_size  # a record must not change later
    assert "step_size" in hmc.state_dict()


def test_a_step_that_flies_off_is_rejected() -> None:
    """To infinity and not-a-number, in single precision."""
    net = _bent().float()
    draw = net.sample(50, generator=_seeded())
    hmc = HMCPosterior(burn_in=0, keep=1, leapfrog=8, step_size=1e30)
    found = hmc.reconstruct(net, draw, _seeded(1))
    torch.testing.assert_close(found.values, draw.mean.detach())
    assert float(hmc.step_size) == pytest.approx(1e30 * math.exp(-0.02 * 0.67), rel=1e-5)


def test_the_reconstruction_tends_to_the_posterior_mean() -> None:
    net = _linear()
    draw = net.sample(30, generator=_seeded())
    hmc = HMCPosterior(burn_in=5, keep=400, leapfrog=4, step_size=0.15).double()
    found = hmc.reconstruct(net, draw, _seeded(1))
    expected = net(net.posterior_mean(draw.x)).detach()
    spread = (draw.mean.detach() - expected).std()
    assert float((found.values - expected).std()) < 0.15 * float(spread)
    assert found.effective_sample_size is None  # nothing is weighted


@pytest.mark.parametrize("identity", ["score", "covariance"])
def test_a_long_run_passes_on_the_whole_gradient(identity: str) -> None:
    net = _linear(4, 2)
    exact = torch.autograd.grad(net.entropy(), (net.weight, net.log_sigma))
    hmc = HMCPosterior(burn_in=12, keep=3, leapfrog=5, step_size=0.12, identity=identity).double()  # type: ignore[arg-type]
    found = []
    for seed in range(8):
        draw = net.sample(500, generator=_seeded(2 * seed))
        surrogate = hmc(net, draw, generator=_seeded(2 * seed + 1)).surrogate.mean()
        weight, scale = torch.autograd.grad(surrogate, (net.weight, net.log_sigma))
        found.append([float((weight * exact[0]).sum() / exact[0].square().sum()), float(scale / exact[1])])
    mean, error = np.mean(found, axis=0), np.std(found, axis=0, ddof=1) / math.sqrt(8)
    assert (error < 0.06).all()
    assert (np.abs(mean - 1) < 4.5 * error + 0.02).all()


def test_a_short_run_stays_near_the_start_and_passes_on_less() -> None:
    net = _linear(4, 2)
    (exact,) = torch.autograd.grad(net.entropy(), net.weight)
    hmc = HMCPosterior(burn_in=0, keep=1, leapfrog=1, step_size=0.01, identity="covariance").double()
    draw = net.sample(2000, generator=_seeded())
    (mine,) = torch.autograd.grad(hmc(net, draw, generator=_seeded(1)).surrogate.mean(), net.weight)
    assert float((mine * exact).sum() / exact.square().sum()) < 0.1
