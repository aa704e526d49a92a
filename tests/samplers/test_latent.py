"""Chains in latent space against the closed forms of linear generators."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from chainfree.checks import ContractError
from chainfree.energies import Gaussian
from chainfree.generators import DeconvGenerator, Draw, LinearGenerator, MLPGenerator
from chainfree.samplers import refine

WEIGHT = torch.tensor([[0.9, 0.0], [0.4, 0.7]], dtype=torch.float64)
BIAS = torch.tensor([0.5, -0.3], dtype=torch.float64)
ENERGY_MEAN = torch.tensor([0.2, 0.4], dtype=torch.float64)
ENERGY_COVARIANCE = torch.tensor([[0.5, -0.2], [-0.2, 0.4]], dtype=torch.float64)


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _generator() -> LinearGenerator:
    return LinearGenerator(WEIGHT, BIAS, sigma=0.3)


def _energy() -> Gaussian:
    return Gaussian(ENERGY_MEAN, ENERGY_COVARIANCE)


def _product() -> tuple[Tensor, Tensor]:
    """Mean and covariance of the normal q(x) exp(-E(x))."""
    q = torch.linalg.inv(WEIGHT @ WEIGHT.T + 0.3**2 * torch.eye(2, dtype=torch.float64))
    p = torch.linalg.inv(ENERGY_COVARIANCE)
    covariance = torch.linalg.inv(p + q)
    return covariance @ (p @ ENERGY_MEAN + q @ BIAS), covariance


def test_the_two_laws_can_be_told_apart() -> None:
    mean, covariance = _product()
    assert (mean - ENERGY_MEAN).abs().max() > 0.1
    assert (covariance - ENERGY_COVARIANCE).abs().max() > 0.1


def test_without_correction_it_samples_generator_times_energy() -> None:
    draw, info = refine(_energy(), _generator(), correction="none", n=10_000, steps=80, generator=_seeded())
    mean, covariance = _product()
    torch.testing.assert_close(draw.x.mean(0), mean, rtol=0, atol=0.025)
    torch.testing.assert_close(torch.cov(draw.x.T), covariance, rtol=0, atol=0.02)
    assert info.acceptance.mean().item() == pytest.approx(0.57, abs=0.06)


def test_with_a_bank_it_samples_the_energy() -> None:
    # averaged over banks, whose error is larger than that of the chains
    means, covariances = [], []
    for seed in range(6):
        draw, info = refine(
            _energy(), _generator(), correction="bank", n=500, bank=500, steps=60, generator=_seeded(seed)
        )
        assert info.acceptance.mean().item() == pytest.approx(0.57, abs=0.08)
        means.append(draw.x.mean(0))
        covariances.append(torch.cov(draw.x.T))
    torch.testing.assert_close(torch.stack(means).mean(0), ENERGY_MEAN, rtol=0, atol=0.06)
    torch.testing.assert_close(torch.stack(covariances).mean(0), ENERGY_COVARIANCE, rtol=0, atol=0.06)


def _factor(x: Tensor, bank: Tensor, slope: float, sigma: float) -> Tensor:
    """R(x) of a generator x = slope z + sigma eps, by quadrature in z, ``(N,)``."""
    z = torch.linspace(-7, 7, 1401, dtype=torch.float64)
    own = Normal(slope * z, sigma).log_prob(x[:, None]).exp()
    others = Normal(bank, sigma).log_prob(x[:, None]).exp().sum(1, keepdim=True)
    prior = Normal(0.0, 1.0).log_prob(z).exp() * (z[1] - z[0])
    return (prior * own * (len(bank) + 1) / (own + others)).sum(1)


def test_of_a_small_bank_the_law_is_the_one_that_quadrature_gives() -> None:
    # an energy wider than the generator, where a mixture without the chain's own mean would have no law at all
    slope, sigma, spread = 0.5, 0.3, 1.5
    net = LinearGenerator(torch.tensor([[slope]], dtype=torch.float64), sigma=sigma)
    bank = torch.tensor([-0.9, -0.3, 0.1, 0.4], dtype=torch.float64)
    draw, _ = refine(
        lambda x: 0.5 * (x / spread).square().sum(1),
        net,
        correction="bank",
        n=4000,
        bank=bank[:, None],
        steps=600,
        generator=_seeded(),
    )
    axis = torch.linspace(-9, 9, 1801, dtype=torch.float64)
    weights = torch.exp(-0.5 * (axis / spread).square()) * _factor(axis, bank, slope, sigma)
    weights = weights / weights.sum()
    cumulated = weights.cumsum(0)
    expected = axis[torch.searchsorted(cumulated, torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9], dtype=torch.float64))]
    found = draw.x.flatten().quantile(torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9], dtype=torch.float64))
    torch.testing.assert_close(found, expected, rtol=0, atol=0.12)


def test_the_factor_is_one_on_average_over_banks() -> None:
    x = torch.tensor([0.0, 1.0, 3.0], dtype=torch.float64)  # the last where the generator hardly goes
    factors = torch.stack(
        [_factor(x, 0.5 * torch.randn(3, dtype=torch.float64, generator=_seeded(s)), 0.5, 0.3) for s in range(2000)]
    )
    error = factors.std(0) / len(factors) ** 0.5
    assert bool(((factors.mean(0) - 1).abs() < 4 * error).all()) and bool((error < 0.03).all())


def test_a_flat_energy_leaves_the_prior_as_it_is() -> None:
    draw, _ = refine(lambda x: 0 * x.sum(1), _generator(), correction="none", n=10_000, steps=30, generator=_seeded())
    for part in (draw.z, draw.noise):
        torch.testing.assert_close(part.mean(0), torch.zeros(2, dtype=torch.float64), rtol=0, atol=0.04)
        torch.testing.assert_close(torch.cov(part.T), torch.eye(2, dtype=torch.float64), rtol=0, atol=0.06)


@pytest.mark.parametrize("correction", ["none", "bank"])
def test_samples_are_what_their_latents_make_and_nothing_has_a_graph(correction: Any) -> None:
    net = MLPGenerator(3, 2, width=8, depth=1, batch_norm=True)
    start = net.sample(7, generator=_seeded(1))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    energy = Gaussian([0.0, 0.0])
    draw, info = refine(energy, net, correction=correction, draw=start, bank=5, steps=4, generator=_seeded())
    assert draw.x.shape == draw.mean.shape == draw.noise.shape == (7, 2) and draw.z.shape == (7, 3)
    torch.testing.assert_close(draw.mean, net.decode(draw.z, start.constants))
    torch.testing.assert_close(draw.x, draw.mean + net.sigma * draw.noise)
    assert info.acceptance.shape == (7,) and info.step_size.shape == ()
    assert not any(t.requires_grad for t in (*draw[:4], *itertools.chain(*draw.statistics), *info))
    assert all(p.grad is None for p in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net.training
    onwards, _ = refine(energy, net, correction=correction, draw=draw, bank=5, steps=2)
    assert len(onwards.x) == 7
    with pytest.raises(ContractError, match="decode needs the statistics of a draw"):
        refine(energy, net, correction=correction, n=7, bank=5, steps=4)


def test_it_goes_on_from_a_draw() -> None:
    net, energy = _generator(), _energy()
    draw = net.sample(6, generator=_seeded())
    kept = draw.z.clone()
    still, _ = refine(energy, net, correction="none", draw=draw, steps=2, adaptation=0, step_size=1e-12)
    torch.testing.assert_close(still.x, draw.x.detach(), rtol=0, atol=1e-4)
    torch.testing.assert_close(still.z, draw.z, rtol=0, atol=1e-4)
    assert torch.equal(draw.z, kept)


def test_images_and_a_bank_of_ones_own() -> None:
    net = DeconvGenerator(3, size=8, widths=(4,)).eval()
    means = net(net.latents(9, _seeded())).detach()
    draw, _ = refine(
        lambda x: x.square().flatten(1).sum(1), net, correction="bank", n=2, bank=means, steps=3, generator=_seeded()
    )
    assert draw.x.shape == (2, 1, 8, 8)


def test_it_is_reproduced_by_the_generator_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = (
        refine(_energy(), _generator(), correction="bank", n=5, bank=20, steps=6, generator=_seeded(seed))[0].x
        for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 0}, "steps must be a whole number above 0, got 0"),
        ({"steps": 5, "adaptation": 5}, "adaptation must leave some of the 5 steps, got 5"),
        ({"adaptation": 1.5}, "adaptation must leave some"),
        ({"adaptation": -1}, "adaptation must be a finite number of at least 0"),
        ({"correction": "kernel"}, "correction must be 'bank' or 'none', got 'kernel'"),
        ({"n": None}, "give either n"),
        ({"n": 0}, "n must be a whole number above 0, got 0"),
        ({"draw": _generator().sample(3)}, "give either n"),
        ({"correction": "bank", "bank": 0}, "bank must be a whole number above 0, got 0"),
        ({"target": 1.5}, r"target must be an acceptance rate between 0 and 1, got 1\.5"),
        ({"step_size": -0.1}, "step_size must"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        refine(_energy(), _generator(), **{"correction": "none", "n": 3, "steps": 4, **options})


def test_what_does_not_belong_to_the_generator_is_refused() -> None:
    x = torch.zeros(4, 3, dtype=torch.float64)
    with pytest.raises(ContractError, match="draw it from this generator"):
        refine(_energy(), _generator(), correction="none", draw=Draw(x, x, x, x))
    with pytest.raises(ContractError, match=r"the bank must be means .* got \(4, 3\)"):
        refine(_energy(), _generator(), correction="bank", n=3, bank=x)
    with pytest.raises(ContractError, match="squeeze the last axis"):
        refine(lambda v: v[:, :1], _generator(), correction="none", n=3)
