"""What a latent model is used for, against probabilistic PCA and models whose answer is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from chainfree.energies import Gaussian, Tilted
from chainfree.generators import DeconvGenerator, LinearGenerator, UpsamplingGenerator
from chainfree.latent import (
    GaussianEncoder,
    GeneratorPrior,
    LangevinPrior,
    LatentModel,
    NormalPrior,
    ResampledPrior,
    VariationalPosterior,
    image_decoder,
    latent_prior,
)

DIM, LATENT, SIGMA = 5, 2, 0.6


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _decoder() -> LinearGenerator:
    source = _seeded(1)
    weight, bias = (torch.randn(*shape, generator=source, dtype=torch.float64) for shape in ((DIM, LATENT), (DIM,)))
    return LinearGenerator(weight, bias, sigma=SIGMA, sigma_bounds=(SIGMA, SIGMA))


def _model(mean: tuple[float, float] = (0.0, 0.0)) -> LatentModel:
    return LatentModel(Gaussian(torch.tensor(mean, dtype=torch.float64)), _decoder())


class _Exactly:
    """Latents that are the posterior's mean: of Tipping and Bishop, with M = W'W + sigma^2 I."""

    def latents(self, model: LatentModel, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        decoder = _decoder()
        w = decoder.weight.detach()
        return (x - decoder.bias.detach()) @ w @ torch.linalg.inv(w.T @ w + SIGMA**2 * torch.eye(LATENT, dtype=w.dtype))


class _Draws(_Exactly):
    """And that are draws of it."""

    def latents(self, model: LatentModel, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        w = _decoder().weight.detach()
        covariance = SIGMA**2 * torch.linalg.inv(w.T @ w + SIGMA**2 * torch.eye(LATENT, dtype=w.dtype))
        noise = torch.randn(len(x), LATENT, generator=generator, dtype=x.dtype)
        return super().latents(model, x) + noise @ torch.linalg.cholesky(covariance).T


def test_rows_are_reconstructed_by_their_projection() -> None:
    model, x = _model(), _decoder().sample(600, generator=_seeded(2)).x.detach()
    w, bias = model.decoder.weight.detach(), model.decoder.bias.detach()  # type: ignore[union-attr, operator]
    shrunk = w @ torch.linalg.inv(w.T @ w + SIGMA**2 * torch.eye(LATENT, dtype=w.dtype)) @ w.T
    torch.testing.assert_close(model.reconstruct(x, _Exactly()), bias + (x - bias) @ shrunk)


@pytest.mark.parametrize("kind", ["langevin", "generator", "resampled", "normal"])
def test_samples_have_the_moments_of_the_model(kind: str) -> None:
    mean = torch.tensor([0.7, -0.3], dtype=torch.float64)
    ways = {
        "langevin": LangevinPrior(steps=300, step_size=0.04),
        "generator": GeneratorPrior(
            generator=LinearGenerator(torch.eye(LATENT, dtype=torch.float64), mean, sigma=1e-3, sigma_bounds=(1e-3, 1))
        ),
        "resampled": ResampledPrior(proposals=200),
        "normal": NormalPrior(),
    }
    model = _model((0.0, 0.0) if kind == "normal" else (0.7, -0.3))
    if kind == "resampled":  # a standard normal times e^(m'z) is a normal about m
        base = Gaussian(torch.zeros(2, dtype=torch.float64))
        slope = torch.nn.Sequential(torch.nn.Linear(2, 1, dtype=torch.float64), torch.nn.Flatten(0))
        prior = Tilted(base, slope)
        with torch.no_grad():
            slope[0].weight.copy_(-mean)
        model = LatentModel(prior, _decoder())
    shift = torch.zeros_like(mean) if kind == "normal" else mean
    x = model.sample(20_000, ways[kind], generator=_seeded(3))  # type: ignore[arg-type]
    w, bias = model.decoder.weight.detach(), model.decoder.bias.detach()  # type: ignore[union-attr, operator]
    assert not x.requires_grad
    torch.testing.assert_close(x.mean(0), bias + w @ shift, atol=0.06, rtol=0)
    torch.testing.assert_close(torch.cov(x.T), w @ w.T, atol=0.06, rtol=0.05)


def test_the_anomaly_score_is_the_mean_over_the_posterior() -> None:
    model, x = _model(), _decoder().sample(300, generator=_seeded(4)).x.detach()
    log_z = math.log(2 * math.pi)  # of the energy, which has no constant
    score = model.anomaly_score(x, _Draws(), draws=400, generator=_seeded(5))
    found = score.joint + log_z
    # -log p(x) plus the posterior's entropy, by log p(x, z) = log p(x) + log p(z | x)
    w, bias = model.decoder.weight.detach(), model.decoder.bias.detach()  # type: ignore[union-attr, operator]
    law = torch.distributions.MultivariateNormal(bias, w @ w.T + SIGMA**2 * torch.eye(DIM, dtype=w.dtype))
    covariance = SIGMA**2 * torch.linalg.inv(w.T @ w + SIGMA**2 * torch.eye(LATENT, dtype=w.dtype))
    entropy = torch.distributions.MultivariateNormal(torch.zeros(LATENT, dtype=w.dtype), covariance).entropy()
    torch.testing.assert_close(found, entropy - law.log_prob(x), atol=0.25, rtol=0)
    assert float((found - entropy + law.log_prob(x)).mean()) == pytest.approx(0, abs=0.02)
    mean = (x - bias) @ w @ covariance / SIGMA**2
    of_prior = 0.5 * (mean.square().sum(1) + covariance.trace())
    torch.testing.assert_close(score.prior, of_prior, atol=0.25, rtol=0)
    assert float((score.prior - of_prior).mean()) == pytest.approx(0, abs=0.02)
    once = model.anomaly_score(x, _Exactly())
    z = _Exactly().latents(model, x)
    torch.testing.assert_close(once.joint, -model.log_joint(x, z))
    torch.testing.assert_close(once.prior, model.prior(z))


def test_the_way_between_rows_is_a_great_circle_with_both_ends() -> None:
    model = _model()
    w, bias = model.decoder.weight.detach(), model.decoder.bias.detach()  # type: ignore[union-attr, operator]
    radii = torch.tensor([[2.0], [1.0]], dtype=torch.float64)
    z0 = radii * torch.tensor([[1.0, 0.0], [0.6, 0.8]], dtype=torch.float64)
    z1 = radii * 3 * torch.tensor([[0.0, 1.0], [0.6, 0.8]], dtype=torch.float64)  # a quarter turn, and none

    class Inverse:
        def latents(self, model: LatentModel, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
            return (x - bias) @ torch.linalg.pinv(w).T

    way = model.interpolate(bias + z0 @ w.T, bias + z1 @ w.T, Inverse(), points=4)
    assert way.rows.shape == (4, 2, DIM) and way.energies.shape == (4, 2)
    torch.testing.assert_close(way.latents[[0, -1]], torch.stack([z0, z1]))
    torch.testing.assert_close(way.latents.norm(dim=2)[:, 0], torch.tensor([2, 10 / 3, 14 / 3, 6], dtype=torch.float64))
    angles = torch.atan2(way.latents[:, 0, 1], way.latents[:, 0, 0])
    torch.testing.assert_close(angles, torch.arange(4, dtype=torch.float64) * math.pi / 6)
    torch.testing.assert_close(way.latents[:, 1], torch.linspace(1, 3, 4, dtype=torch.float64)[:, None] * z0[1])
    torch.testing.assert_close(way.rows[2], bias + way.latents[2] @ w.T)
    torch.testing.assert_close(way.energies[1], model.prior(way.latents[1]))
    back = model.interpolate(bias + z0 @ w.T, bias - z0 @ w.T, Inverse(), points=3)  # through the origin, and finite
    torch.testing.assert_close(back.latents[1], torch.zeros(2, 2, dtype=torch.float64), atol=1e-9, rtol=0)
    with pytest.raises(ValueError, match="x and y must be as many rows"):
        model.interpolate(bias + z0 @ w.T, bias + z1[:1] @ w.T, Inverse())
    with pytest.raises(ValueError, match="points must be at least 2"):
        model.interpolate(z0, z1, Inverse(), points=1)


def test_many_rows_are_as_few() -> None:
    torch.manual_seed(0)
    decoder = image_decoder("small", 3, size=8)
    prior = latent_prior(torch.nn.Sequential(torch.nn.Linear(3, 1), torch.nn.Flatten(0)), 3)
    model, x = LatentModel(prior, decoder), torch.rand(300, 1, 8, 8)
    encoder = GaussianEncoder(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 6)), 3)

    class Mean:
        def latents(self, model: LatentModel, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
            return encoder(x)[0]

    whole = model.mean(encoder(x)[0]).detach()
    torch.testing.assert_close(model.reconstruct(x, Mean()), whole)
    way = model.interpolate(x, x.flip(0), Mean(), points=3)
    torch.testing.assert_close(way.rows[0], whole)
    torch.testing.assert_close(way.rows[2], whole.flip(0))
    drawn = model.reconstruct(x[:40], VariationalPosterior(encoder=encoder), generator=_seeded())
    assert drawn.shape == (40, 1, 8, 8) and not torch.equal(drawn, whole[:40])
    assert model.sample(300, NormalPrior(), generator=_seeded()).shape == (300, 1, 8, 8)


@pytest.mark.parametrize("kind", ["small", "paper", "residual"])
@pytest.mark.parametrize(("size", "channels"), [(28, 1), (32, 3)])
def test_decoders_by_name(kind: str, size: int, channels: int) -> None:
    decoder = image_decoder(kind, 4, size=size, channels=channels)  # type: ignore[arg-type]
    assert type(decoder) is (UpsamplingGenerator if kind == "residual" else DeconvGenerator)
    x = decoder.decode(torch.randn(2, 4))  # in training mode: no batch norms
    assert x.shape == (2, channels, size, size) and float(x.detach().abs().max()) <= 1
    assert not decoder.log_sigma.requires_grad and float(decoder.sigma) == pytest.approx(0.3)
    learned = image_decoder(kind, 4, size=size, learn_sigma=True, output="none")  # type: ignore[arg-type]
    with torch.no_grad():
        learned.log_sigma.sub_(1.0)
    learned.constrain()
    assert float(learned.sigma.detach()) == pytest.approx(0.3 / math.e)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="kind must be one of small, paper, residual, got 'big'"):
        image_decoder("big", 4)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="steps"):
        LangevinPrior(steps=0)
    with pytest.raises(ValueError, match="step_size"):
        LangevinPrior(step_size=-1.0)
    with pytest.raises(ValueError, match="proposals"):
        ResampledPrior(proposals=0)
    with pytest.raises(TypeError, match="tilted from a base, got Gaussian; use LangevinPrior"):
        _model().sample(3, ResampledPrior())
    with pytest.raises(ValueError, match="n must be"):
        _model().sample(0, NormalPrior())
    with pytest.raises(ValueError, match="draws"):
        _model().anomaly_score(torch.zeros(2, DIM, dtype=torch.float64), _Exactly(), draws=0)
