"""Latent priors: what their turns minimise, against probabilistic PCA, and what they learn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

import chainfree as cf
from chainfree.energies import MLP, Gaussian
from chainfree.engine import Engine, OptimizerSettings
from chainfree.generators import LinearGenerator, MLPGenerator
from chainfree.latent import GaussianEncoder, LangevinPosterior, RevisedPosterior, VariationalPosterior, latent_prior
from chainfree.losses import EnergyDiscrepancy
from chainfree.objectives import LatentPrior
from chainfree.perturbations import Gaussian as Noise
from chainfree.typing import Batch

DIM, LATENT, SIGMA = 4, 2, 0.5


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _decoder(sigma: float = SIGMA) -> LinearGenerator:
    weight = torch.randn(DIM, LATENT, generator=_seeded(1), dtype=torch.float64)
    return LinearGenerator(weight, sigma=sigma, sigma_bounds=(0.1, 1.0))


def _law(decoder: LinearGenerator) -> MultivariateNormal:
    w = decoder.weight
    return MultivariateNormal(decoder.bias, w @ w.T + decoder.sigma.square() * torch.eye(DIM, dtype=w.dtype))


def _turns(objective: LatentPrior, energy: Any, x: Tensor, seed: int = 0) -> Any:
    return objective.updates(energy, Batch(x), 0, _seeded(seed))


def test_the_decoders_gradient_is_that_of_the_likelihood() -> None:
    """Fisher's identity: the mean gradient over draws of the posterior is that of log p(x), in closed form here."""
    decoder = _decoder()
    x = 1.5 * torch.randn(4, DIM, generator=_seeded(2), dtype=torch.float64)
    parameters = [decoder.weight, decoder.bias, decoder.log_sigma]
    expected = torch.autograd.grad(-_law(decoder).log_prob(x).mean(), parameters)
    posterior = LangevinPosterior(steps=120, step_size=0.03)
    objective = LatentPrior(decoder, posterior, None)
    prior = Gaussian(torch.zeros(LATENT, dtype=torch.float64))
    (update,) = _turns(objective, prior, x.repeat(5_000, 1))
    assert update.player == "decoder"
    for found, truth in zip(torch.autograd.grad(update.loss, parameters), expected, strict=True):
        torch.testing.assert_close(found, truth, atol=0.05, rtol=0.05)


def test_a_linear_autoencoder_finds_the_likelihood_of_principal_components() -> None:
    """The bound is tight where the posterior is normal with independent latents, as at the optimum."""
    data = _law(_decoder()).sample((4000,)).detach()
    best = LinearGenerator.pca(data, LATENT)
    encoder = GaussianEncoder(torch.nn.Linear(DIM, 2 * LATENT).double(), LATENT)
    decoder = LinearGenerator(
        0.1 * torch.randn(DIM, LATENT, generator=_seeded(3), dtype=torch.float64), sigma=0.9, sigma_bounds=(0.1, 1.0)
    )
    prior = Gaussian(torch.zeros(LATENT, dtype=torch.float64))
    objective = LatentPrior(decoder, VariationalPosterior(encoder=encoder), None)
    engine = Engine(prior, objective, seed=0, optimizer=OptimizerSettings(lr=1e-2))
    engine.fit(cf.batches(data, size=256), steps=1000)
    found, truth = (float(net.log_prob(data).mean().detach()) for net in (decoder, best))
    assert truth - 0.05 < found < truth + 1e-6
    assert float(decoder.sigma.detach()) == pytest.approx(float(best.sigma.detach()), rel=0.1)


@pytest.mark.parametrize("kind", ["langevin", "variational", "revised"])
def test_the_prior_learns_what_the_latents_of_the_data_are(kind: str) -> None:
    """Rows are two clouds on a line; a standard normal says that most lie between them, the tilted prior that none does."""
    torch.manual_seed(0)
    side = torch.where(torch.rand(3000, 1, generator=_seeded(4)) < 0.5, 1.5, -1.5)
    data = side + 0.2 * torch.randn(3000, 1, generator=_seeded(5))
    encoder = GaussianEncoder(MLP(1, width=16, outputs=2), 1)
    decoder = LinearGenerator(torch.ones(1, 1), sigma=0.2, sigma_bounds=(0.2, 0.2))
    decoder.requires_grad_(False)
    decoder.log_sigma.requires_grad_(True)  # a player has something to train
    posteriors = {
        "langevin": LangevinPosterior(steps=20, step_size=0.04),
        "variational": VariationalPosterior(encoder=encoder),
        "revised": RevisedPosterior(encoder=encoder, steps=10, step_size=0.02),
    }
    loss = EnergyDiscrepancy(perturbation=Noise(t=1.0), draws=8)
    objective = LatentPrior(decoder, posteriors[kind], loss)
    energy = latent_prior(MLP(1, width=32, depth=2), 1)
    Engine(energy, objective, seed=0, optimizer=OptimizerSettings(lr=3e-3)).fit(cf.batches(data, size=128), steps=600)
    grid = torch.linspace(-6, 6, 2001).unsqueeze(1)
    with torch.no_grad():
        density = torch.softmax(-energy(grid), 0)
    middle = float(density[grid.squeeze(1).abs() < 0.7].sum())
    outer = [float(density[(grid.squeeze(1) - at).abs() < 0.8].sum()) for at in (-1.5, 1.5)]
    assert middle < 0.15 and min(outer) > 0.3, (middle, outer)


def test_turns_and_metrics() -> None:
    torch.manual_seed(0)
    encoder = GaussianEncoder(MLP(DIM, width=8, outputs=2 * LATENT), LATENT)
    energy, x = latent_prior(MLP(LATENT, width=8), LATENT), torch.randn(6, DIM)
    loss = EnergyDiscrepancy(draws=4)
    cases = {
        "langevin": (LangevinPosterior(steps=2), ["decoder", "energy"]),
        "variational": (VariationalPosterior(encoder=encoder), ["decoder", "energy"]),
        "revised": (RevisedPosterior(encoder=encoder, steps=2), ["decoder", "encoder", "energy"]),
    }
    for posterior, players in cases.values():
        objective = LatentPrior(MLPGenerator(LATENT, DIM, width=8), posterior, loss)
        turns = list(_turns(objective, energy, x))
        assert [update.player for update in turns] == players == list(objective.players(energy))
        assert "prior_loss" in turns[-1].metrics and "energy_data" in turns[-1].metrics
    assert list(
        LatentPrior(MLPGenerator(LATENT, DIM), VariationalPosterior(encoder=encoder), None).players(energy)
    ) == ["decoder"]
    with pytest.raises(ValueError, match="likelihood must be"):
        LatentPrior(MLPGenerator(LATENT, DIM), LangevinPosterior(), None, likelihood="poisson")  # type: ignore[arg-type]
