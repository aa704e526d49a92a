"""Posteriors around the generating latent: importance weights and preconditioned steps."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch import Tensor

from chainfree.entropy import ImportancePosterior, LearnedPosterior, PreconditionedSteps
from chainfree.generators import Draw, LinearGenerator, MLPGenerator


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=_seeded(seed))


def _linear(dim: int, latent: int, sigma: float = 0.1) -> LinearGenerator:
    weight = _normal(dim, latent, seed=5) / math.sqrt(latent)
    return LinearGenerator(weight, _normal(dim, seed=6), sigma=sigma)


def _precision(net: LinearGenerator) -> Tensor:
    weight = net.weight.detach()
    return torch.eye(net.latent_dim, dtype=weight.dtype) + weight.T @ weight / float(net.sigma.detach()) ** 2


def _tuned(estimator: LearnedPosterior, net: LinearGenerator) -> LearnedPosterior:
    """With the scale that the bound asks for."""
    estimator.double()
    with torch.no_grad():
        estimator.log_scale.copy_(-0.5 * _precision(net).diagonal().log())
    return estimator


def _projections(
    estimator: LearnedPosterior, net: LinearGenerator, *, rows: int, batches: int = 8
) -> tuple[float, float]:
    """The weights' gradient projected on the entropy's, where 1 is right: mean and standard error."""
    (exact,) = torch.autograd.grad(net.entropy(), net.weight)
    found = []
    for seed in range(batches):
        draw = net.sample(rows, generator=_seeded(2 * seed))
        surrogate = estimator(net, draw, generator=_seeded(2 * seed + 1)).surrogate.mean()
        (mine,) = torch.autograd.grad(surrogate, net.weight)
        found.append(float((mine * exact).sum() / exact.square().sum()))
    return float(np.mean(found)), float(np.std(found, ddof=1) / math.sqrt(batches))


# -- the bound ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [ImportancePosterior, PreconditionedSteps])
def test_the_bound_s_best_scale_is_the_diagonal_of_the_precision(make: type[LearnedPosterior]) -> None:
    r""":math:`1/\sqrt{1 + \mathrm{diag}(W^\top W)/\sigma^2}`: there, and there alone, the gradient vanishes."""
    net = _linear(4, 3, sigma=0.3)
    posterior = _tuned(make(3), net)
    weight = net.weight.detach()
    best = 1 / torch.sqrt(1 + weight.square().sum(0) / 0.09)
    torch.testing.assert_close(posterior.scale.detach(), best)
    draw = net.sample(40_000, generator=_seeded())

    def gradient() -> Tensor:
        (found,) = torch.autograd.grad(posterior.loss(net, draw, _seeded(1)), posterior.log_scale)
        return found

    assert gradient().abs().max() < 0.05
    for factor, expected in [(2.0, 3.0), (0.5, -0.75)]:  # of 1/2 eta^2 A - log eta
        with torch.no_grad():
            posterior.log_scale.copy_(torch.log(factor * best))
        torch.testing.assert_close(gradient(), torch.full_like(best, expected), rtol=0, atol=0.08)


def test_the_bound_s_value_is_the_divergence_s() -> None:
    """Negative log-joint less the posterior's entropy, with scipy's densities; constants are left out."""
    net = MLPGenerator(2, 3, width=6, depth=1).double()
    posterior = ImportancePosterior(2, scale=0.3).double()
    draw = net.sample(7, generator=_seeded())
    z = (draw.z + float(posterior.scale[0].detach()) * _normal(7, 2, seed=1)).numpy()
    x, means = draw.x.detach().numpy(), net(torch.from_numpy(z)).detach().numpy()
    sigma = float(net.sigma.detach())
    joint = stats.norm.logpdf(x, means, sigma).sum(1) + stats.norm.logpdf(z).sum(1)
    entropy = 2 * float(posterior.log_scale[0].detach())
    loss = float(posterior.loss(net, draw, _seeded(1)).detach())
    assert loss == pytest.approx(-(joint.mean() + entropy), rel=1e-9)


# -- importance weights ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [None, 3, 7, 50])
def test_the_reconstruction_is_numpy_s(chunk: int | None) -> None:
    net = MLPGenerator(2, 3, width=6, depth=1).double()
    posterior = ImportancePosterior(2, draws=7, chunk=chunk, scale=0.2).double()
    draw = net.sample(5, generator=_seeded())
    found = posterior.reconstruct(net, draw, _seeded(1))
    source, sizes = _seeded(1), [7] if chunk in (None, 7, 50) else [3, 3, 1]
    noise = torch.cat([torch.randn(n, 5, 2, dtype=torch.float64, generator=source) for n in sizes])
    scale = float(posterior.scale[0].detach())
    z = (draw.z + scale * noise).numpy()
    means = net(torch.from_numpy(z)).detach().numpy()
    sigma = float(net.sigma.detach())
    joint = stats.norm.logpdf(draw.x.detach().numpy(), means, sigma).sum(-1) + stats.norm.logpdf(z).sum(-1)
    weights = special.softmax(joint - stats.norm.logpdf(z, draw.z.numpy(), scale).sum(-1), axis=0)
    np.testing.assert_allclose(found.values, (weights[..., None] * means).sum(0), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(float(found.effective_sample_size), (1 / (weights**2).sum(0)).mean(), rtol=1e-8)
    assert not found.values.requires_grad


def test_chunks_change_nothing_but_memory() -> None:
    """Sizes for which torch's generator gives equal streams in one draw and in several."""
    net = MLPGenerator(4, 3, width=6, depth=1).double()
    draw = net.sample(8, generator=_seeded())
    whole, parts = (
        ImportancePosterior(4, draws=20, chunk=chunk).double()(net, draw, generator=_seeded(1)) for chunk in (None, 5)
    )
    torch.testing.assert_close(parts.surrogate, whole.surrogate, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(parts.metrics["posterior_ess"], whole.metrics["posterior_ess"], rtol=1e-9, atol=0)


def test_weights_of_wild_draws_stay_finite() -> None:
    """Logarithms of minus millions, in single precision: only differences count."""
    net = MLPGenerator(4, 60, width=6, depth=1, sigma=0.01)
    with torch.no_grad():
        net.layers[-1].weight.mul_(20)
    draw = net.sample(5, generator=_seeded())
    for chunk in (None, 1):
        found = ImportancePosterior(4, chunk=chunk, scale=2.0).reconstruct(net, draw, _seeded(1))
        assert torch.isfinite(found.values).all()
        assert 1 <= float(found.effective_sample_size) < 1.5


def test_one_draw_is_its_own_mean_and_many_are_the_posterior_s() -> None:
    net = _linear(3, 1, sigma=0.3)
    draw = net.sample(6, generator=_seeded())
    one = ImportancePosterior(1, draws=1, scale=0.4).double().reconstruct(net, draw, _seeded(1))
    expected = net(draw.z + 0.4 * _normal(1, 6, 1, seed=1)[0]).detach()
    torch.testing.assert_close(one.values, expected)
    assert float(one.effective_sample_size) == 1
    many = ImportancePosterior(1, draws=40_000, chunk=5000, scale=0.4).double().reconstruct(net, draw, _seeded(1))
    torch.testing.assert_close(many.values, net(net.posterior_mean(draw.x)).detach(), rtol=0, atol=0.02)
    assert 1000 < float(many.effective_sample_size) < 40_000


def test_the_paper_s_estimator_passes_on_about_half_of_the_gradient() -> None:
    """Its draws are centred on the generating latent; at 10 -> 50, with 20 draws and the best scale."""
    net = _linear(50, 10)
    posterior = _tuned(ImportancePosterior(10, control_variate=True), net)
    mean, error = _projections(posterior, net, rows=4000, batches=6)
    assert error < 0.04
    assert 0.35 - 2 * error < mean < 0.6 + 2 * error


def test_its_control_variate_is_off_as_in_the_paper() -> None:
    assert not ImportancePosterior(2).control_variate
    assert PreconditionedSteps(2).control_variate
    net = _linear(6, 2)
    draw = net.sample(50, generator=_seeded())
    gradients = {}
    for on in (True, False):
        posterior = ImportancePosterior(2, control_variate=on).double()
        surrogate = posterior(net, draw, generator=_seeded(1)).surrogate.mean()
        (gradients[on],) = torch.autograd.grad(surrogate, net.weight, retain_graph=True)
    # what it takes off: eps / sigma along the means
    off = draw.noise.T @ draw.z / float(net.sigma.detach()) / 50
    torch.testing.assert_close(gradients[False], gradients[True] + off)


# -- steps -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 5])
def test_gradient_steps_contract_to_the_posterior_mean(steps: int) -> None:
    r""":math:`z_T = m + (I - \tfrac12\mathrm{diag}(\eta^2) A)^T (z_0 - m)` for linear generators."""
    net = _linear(5, 3, sigma=0.3)
    posterior = _tuned(PreconditionedSteps(3, steps=steps), net)
    draw = net.sample(6, generator=_seeded())
    mean = net.posterior_mean(draw.x).detach()
    shrink = torch.eye(3, dtype=torch.float64) - 0.5 * posterior.scale.detach().square()[:, None] * _precision(net)
    expected = net(mean + (draw.z - mean) @ torch.linalg.matrix_power(shrink, steps).T).detach()
    found = posterior.reconstruct(net, draw, _seeded())
    torch.testing.assert_close(found.values, expected, rtol=1e-9, atol=1e-9)
    assert found.effective_sample_size is None


def test_langevin_steps_average_the_last_half_of_the_path() -> None:
    """By hand, with the same noise."""
    net = _linear(5, 3, sigma=0.3)
    posterior = _tuned(PreconditionedSteps(3, steps=4, kind="langevin"), net)
    draw = net.sample(6, generator=_seeded())
    mean, scale, source = net.posterior_mean(draw.x).detach(), posterior.scale.detach(), _seeded(1)
    path = [draw.z]
    for _ in range(4):
        drift = -0.5 * scale.square() * ((path[-1] - mean) @ _precision(net))
        path.append(path[-1] + drift + scale * torch.randn(6, 3, dtype=torch.float64, generator=source))
    found = posterior.reconstruct(net, draw, _seeded(1))
    torch.testing.assert_close(found.values, net(torch.stack(path[2:]).mean(0)).detach(), rtol=1e-9, atol=1e-9)
    assert found.effective_sample_size is None


def test_draws_are_around_the_end_of_the_path() -> None:
    net = _linear(5, 3, sigma=0.3)
    draw = net.sample(6, generator=_seeded())
    mean = net.posterior_mean(draw.x).detach()
    steps = _tuned(PreconditionedSteps(3, steps=200, draws=9), net)
    around = _tuned(ImportancePosterior(3, draws=9, chunk=None), net)
    found = steps.reconstruct(net, draw, _seeded(1))
    expected = around.reconstruct(net, Draw(draw.x, mean, draw.mean, draw.noise), _seeded(1))
    torch.testing.assert_close(found.values, expected.values, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.effective_sample_size, expected.effective_sample_size, rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", ["gradient", "langevin"])
def test_steps_that_overshoot_do_not_run_away(kind: str) -> None:
    """With a scale 30 times as wide as the bound asks for, in single precision: they would grow 450-fold a step."""
    net = _linear(10, 4, sigma=0.01).float()
    draw = net.sample(50, generator=_seeded())
    best = (-0.5 * _precision(net).diagonal().log()).float()
    posterior = PreconditionedSteps(4, steps=40, kind=kind)  # type: ignore[arg-type]
    with torch.no_grad():
        posterior.log_scale.copy_(best + math.log(30))
    found = posterior.reconstruct(net, draw, _seeded(1)).values
    # with noise of at most 5 standard deviations
    latents = 40 * (5 + 5 * (kind == "langevin")) * posterior.scale.detach().norm()
    farthest = latents * torch.linalg.matrix_norm(net.weight.detach(), 2)
    assert ((found - draw.mean.detach()).norm(dim=1) <= farthest).all()
    estimate = posterior(net, draw, generator=_seeded(1))
    assert torch.isfinite(estimate.surrogate).all() and torch.isfinite(posterior.loss(net, draw, _seeded(2)))


@pytest.mark.parametrize("kind", ["gradient", "langevin"])
def test_many_steps_pass_on_the_whole_gradient(kind: str) -> None:
    net = _linear(10, 4)
    mean, error = _projections(_tuned(PreconditionedSteps(4, steps=40, kind=kind), net), net, rows=1000)  # type: ignore[arg-type]
    assert error < 0.05
    assert abs(mean - 1) < 4.5 * error + 0.02
