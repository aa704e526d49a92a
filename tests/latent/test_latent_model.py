"""Latent models against probabilistic PCA, where posterior, likelihood and gradient are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, MultivariateNormal

from chainfree.checks import ContractError
from chainfree.energies import MLP, Gaussian, Tilted
from chainfree.evaluation import log_z_importance
from chainfree.generators import LinearGenerator, MLPGenerator
from chainfree.latent import (
    GaussianEncoder,
    LangevinPosterior,
    LatentModel,
    RevisedPosterior,
    VariationalPosterior,
    latent_prior,
)

DIM, LATENT, SIGMA = 5, 2, 0.6


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _decoder() -> LinearGenerator:
    source = _seeded(1)
    weight = torch.randn(DIM, LATENT, generator=source, dtype=torch.float64)
    bias = torch.randn(DIM, generator=source, dtype=torch.float64)
    return LinearGenerator(weight, bias, sigma=SIGMA, sigma_bounds=(SIGMA, SIGMA))


def _model() -> LatentModel:
    base = Gaussian(torch.zeros(LATENT, dtype=torch.float64))
    return LatentModel(lambda z: -base.log_prob(z), _decoder())


def _rows(n: int) -> Tensor:
    return _decoder().sample(n, generator=_seeded(2)).x.detach()


class _Exact(nn.Module):
    """Mean and log-scale of the posterior's own marginals, or scales stretched."""

    def __init__(self, decoder: LinearGenerator, stretch: float = 1.0) -> None:
        super().__init__()
        self.decoder, self.stretch = decoder, stretch

    def forward(self, x: Tensor) -> Tensor:
        mean, covariance = _posterior(self.decoder, x)
        log_scale = 0.5 * covariance.diagonal().log() + math.log(self.stretch)
        return torch.cat([mean, log_scale.expand_as(mean)], 1)


def _posterior(decoder: LinearGenerator, x: Tensor) -> tuple[Tensor, Tensor]:
    """By the formulas of Tipping and Bishop: M = W'W + sigma^2 I."""
    w, variance = decoder.weight.detach(), float(decoder.sigma.detach()) ** 2
    m = w.T @ w + variance * torch.eye(LATENT, dtype=w.dtype)
    return (x - decoder.bias.detach()) @ w @ torch.linalg.inv(m), variance * torch.linalg.inv(m)


def _law(decoder: LinearGenerator) -> MultivariateNormal:
    w = decoder.weight
    return MultivariateNormal(decoder.bias, w @ w.T + decoder.sigma.square() * torch.eye(DIM, dtype=w.dtype))


def test_the_log_joint_is_that_of_the_normals() -> None:
    model, x = _model(), _rows(4)
    z = torch.randn(4, LATENT, generator=_seeded(3), dtype=torch.float64)
    mean, covariance = _posterior(_decoder(), x)
    expected = _law(_decoder()).log_prob(x) + MultivariateNormal(mean, covariance).log_prob(z)  # Bayes
    torch.testing.assert_close(model.log_joint(x, z), expected)
    torch.testing.assert_close(model.given(x)(z), -expected)
    several = torch.stack([z, 2 * z])
    torch.testing.assert_close(
        model.log_joint(x, several), torch.stack([model.log_joint(x, z), model.log_joint(x, 2 * z)])
    )


@pytest.mark.parametrize("kind", ["langevin", "revised"])
def test_draws_have_the_posterior_mean_and_covariance(kind: str) -> None:
    model, x = _model(), _rows(3)
    mean, covariance = _posterior(_decoder(), x)
    many = x.repeat_interleave(4_000, 0)
    if kind == "langevin":
        drawn = LangevinPosterior(steps=150, step_size=0.03).latents(model, many, generator=_seeded(4))
    else:
        encoder = GaussianEncoder(_Exact(_decoder()), LATENT)  # without the correlation, which the steps find
        drawn = RevisedPosterior(encoder=encoder, steps=60, step_size=0.03).latents(model, many, generator=_seeded(4))
    by_row = drawn.view(3, 4_000, LATENT)
    torch.testing.assert_close(by_row.mean(1), mean, atol=0.04, rtol=0)
    for one in by_row:
        torch.testing.assert_close(torch.cov(one.T), covariance, atol=0.02, rtol=0.1)
    assert not drawn.requires_grad


def test_the_likelihood_by_importance_is_that_of_the_rows() -> None:
    model, x = _model(), _rows(50)
    encoder = GaussianEncoder(_Exact(_decoder(), stretch=1.3), LATENT)
    found = model.log_likelihood(x, encoder, draws=4000, generator=_seeded(5))
    expected = _law(_decoder()).log_prob(x).detach()
    torch.testing.assert_close(found.values, expected, atol=0.05, rtol=0)
    assert 1000 < float(found.effective_draws.min()) <= 4000
    one_by_one = [model.log_likelihood(row, encoder, draws=1500, generator=_seeded(5)) for row in x[:2].split(1)]
    source = _seeded(5)
    parted = model.log_likelihood(x[:2], encoder, draws=1500, generator=source).values  # a row at a time
    torch.testing.assert_close(parted[0], one_by_one[0].values[0])
    torch.testing.assert_close(parted[1], one_by_one[1].values[0], atol=0.05, rtol=0)
    few = model.log_likelihood(x.repeat(400, 1), encoder, draws=1, generator=_seeded(6)).values
    assert float(few.mean()) < float(expected.mean()) - 0.05  # on average too low


def test_a_tilted_prior_is_part_of_the_likelihood_and_of_its_log_z() -> None:
    class Slope(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(LATENT, 1).double()

        def forward(self, z: Tensor) -> Tensor:
            return self.head(z).squeeze(1)

    prior = Tilted(Gaussian(torch.zeros(LATENT, dtype=torch.float64)), Slope())
    slope = torch.tensor([[0.8, -0.4]], dtype=torch.float64)
    prior.network.head.weight.data.copy_(slope)
    model, x = LatentModel(prior, _decoder()), _rows(30)
    encoder = GaussianEncoder(_Exact(_decoder(), stretch=1.8), LATENT)
    log_z = log_z_importance(prior, prior.base, samples=200_000, generator=_seeded(7))
    found = model.log_likelihood(x, encoder, draws=6000, generator=_seeded(8)).values - log_z.value
    # e^(-a'z) times a standard normal is a normal about -a
    decoder = _decoder()
    shifted = MultivariateNormal(decoder.bias - slope[0] @ decoder.weight.T, _law(decoder).covariance_matrix)
    torch.testing.assert_close(found, shifted.log_prob(x).detach(), atol=0.05, rtol=0)


def test_bits_have_the_likelihood_of_bernoulli() -> None:
    torch.manual_seed(0)
    decoder = MLPGenerator(LATENT, 4, width=8, depth=1)
    model = LatentModel(latent_prior(MLP(LATENT, width=8), LATENT), decoder, "bernoulli")
    z = torch.randn(6, LATENT)
    x = torch.bernoulli(torch.full((6, 4), 0.5), generator=_seeded())
    expected = Bernoulli(logits=decoder(z)).log_prob(x).sum(1)
    torch.testing.assert_close(model.log_conditional(x, z), expected)
    torch.testing.assert_close(model.mean(z), torch.sigmoid(decoder(z)))
    with pytest.raises(ContractError, match="from 0 to 1, got -1 to 1; rescale"):
        model.log_conditional(2 * torch.eye(6, 4) - 1, z)


def test_an_encoder_is_the_normal_that_it_says() -> None:
    torch.manual_seed(0)
    encoder, x = GaussianEncoder(MLP(DIM, outputs=2 * LATENT), LATENT), torch.randn(3, DIM)
    mean, log_scale = encoder(x)
    law = torch.distributions.Normal(mean, log_scale.exp())
    drawn = encoder.sample(x, draws=5, generator=_seeded())
    torch.testing.assert_close(drawn.log_prob, law.log_prob(drawn.z).sum(2))
    torch.testing.assert_close(encoder.log_prob(drawn.z[0], x), law.log_prob(drawn.z[0]).sum(1))
    torch.testing.assert_close(encoder.entropy(x), law.entropy().sum(1))
    assert drawn.z.requires_grad
    latents = VariationalPosterior(encoder=encoder).latents(_float_model(), x, generator=_seeded())
    torch.testing.assert_close(latents, encoder.sample(x, generator=_seeded()).z[0])
    assert not latents.requires_grad


def _float_model() -> LatentModel:
    return LatentModel(Gaussian(torch.zeros(LATENT)), MLPGenerator(LATENT, DIM, width=4))


def test_refusals() -> None:
    with pytest.raises(ValueError, match="likelihood must be 'gaussian' or 'bernoulli', got 'poisson'"):
        LatentModel(Gaussian([0.0]), _decoder(), "poisson")  # type: ignore[arg-type]
    with pytest.raises(ContractError, match="the decoder makes"):
        _model().log_joint(torch.zeros(2, 3, dtype=torch.float64), torch.zeros(2, LATENT, dtype=torch.float64))
    with pytest.raises(ContractError, match="5 rows need as many latents, got 1"):
        _model().log_joint(torch.zeros(5, DIM, dtype=torch.float64), torch.zeros(1, LATENT, dtype=torch.float64))
    with pytest.raises(ContractError, match=r"return \(2, 4\): means and logarithms of scales"):
        GaussianEncoder(nn.Linear(3, 3), LATENT)(torch.zeros(2, 3))
    for setting, value in (("steps", 0), ("step_size", 0.0)):
        for kind in (
            LangevinPosterior,
            lambda **given: RevisedPosterior(encoder=GaussianEncoder(nn.Identity(), 1), **given),
        ):
            with pytest.raises(ValueError, match=setting):
                kind(**{setting: value})
    with pytest.raises(ValueError, match="latent_dim"):
        latent_prior(MLP(2), 0)
