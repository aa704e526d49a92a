"""Latent priors: what their turns minimise, against probabilistic PCA, and what they learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

import chainfree as cf
from chainfree.energies import MLP, Gaussian
from chainfree.engine import Engine, OptimizerSettings, TrainingDivergedError
from chainfree.generators import LinearGenerator, MLPGenerator, ResidualGenerator
from chainfree.latent import (
    GaussianEncoder,
    LangevinPosterior,
    NormalPrior,
    RevisedPosterior,
    VariationalPosterior,
    latent_prior,
)
from chainfree.losses import DenoisingScoreMatching, EnergyDiscrepancy, ShortRun
from chainfree.objectives import VERA, LatentPrior
from chainfree.perturbations import Gaussian as Noise
from chainfree.samplers.chain import Chain
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


PRIORS: dict[str, Callable[[], Any]] = {
    "energy discrepancy": lambda: EnergyDiscrepancy(perturbation=Noise(t=1.0), draws=8),
    "short run": lambda: ShortRun(initial=Gaussian(torch.zeros(1)), chain=Chain(steps=20, step_size=0.05)),
    "denoising": lambda: DenoisingScoreMatching(scale=0.5),
    "vera": lambda: VERA(ResidualGenerator(1, 1, width=32), energy_square=0.1),
}


@pytest.mark.parametrize(
    ("kind", "prior"),
    [(kind, "energy discrepancy") for kind in ("langevin", "revised")] + [("variational", prior) for prior in PRIORS],
)
def test_the_prior_learns_what_the_latents_of_the_data_are(kind: str, prior: str) -> None:
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
    objective = LatentPrior(decoder, posteriors[kind], PRIORS[prior]())
    energy = latent_prior(MLP(1, width=32, depth=2), 1)
    Engine(energy, objective, seed=0, optimizer=OptimizerSettings(lr=3e-3)).fit(cf.batches(data, size=128), steps=600)
    grid = torch.linspace(-6, 6, 2001).unsqueeze(1)
    with torch.no_grad():
        density = torch.softmax(-energy(grid), 0)
    middle = float(density[grid.squeeze(1).abs() < 0.7].sum())
    outer = [float(density[(grid.squeeze(1) - at).abs() < 0.8].sum()) for at in (-1.5, 1.5)]
    assert middle < 0.15 and min(outer) > 0.2, (middle, outer)


def test_a_chain_that_runs_away_is_told_and_nothing_of_it_stays() -> None:
    torch.manual_seed(0)
    decoder = MLPGenerator(LATENT, DIM, width=8)
    objective = LatentPrior(decoder, LangevinPosterior(steps=60, step_size=50.0), EnergyDiscrepancy(draws=4))
    energy = latent_prior(MLP(LATENT, width=8), LATENT)
    engine = Engine(energy, objective, seed=0)
    with pytest.raises(TrainingDivergedError, match="decoder"):
        engine.fit(cf.batches(torch.randn(40, DIM, generator=_seeded()), size=8), steps=50)
    assert all(bool(p.isfinite().all()) for net in (energy, decoder) for p in net.parameters())


def test_a_clipped_gradient_is_not_of_a_scale_that_stays() -> None:
    fixed = LinearGenerator(torch.ones(3, 1), sigma=0.2, sigma_bounds=(0.2, 0.2))
    free = LinearGenerator(torch.ones(3, 1), sigma=0.2, sigma_bounds=(0.1, 0.2))
    assert not fixed.log_sigma.requires_grad and free.log_sigma.requires_grad


def test_metrics_of_the_prior_have_names_of_their_own() -> None:
    torch.manual_seed(0)
    encoder = GaussianEncoder(MLP(DIM, width=8, outputs=2 * LATENT), LATENT)
    vera = VERA(ResidualGenerator(LATENT, LATENT, width=8, sigma=0.1))
    decoder = MLPGenerator(LATENT, DIM, width=8, sigma=0.25)
    objective = LatentPrior(decoder, VariationalPosterior(encoder=encoder), vera)
    first, *others = _turns(objective, latent_prior(MLP(LATENT, width=8), LATENT), torch.randn(6, DIM))
    assert float(first.metrics["sigma"]) == pytest.approx(0.25)
    assert not set(first.metrics) & {name for update in others for name in update.metrics}
    (sigma,) = (update.metrics["prior_sigma"] for update in others if "prior_sigma" in update.metrics)
    assert float(sigma) == pytest.approx(0.1)


def test_objectives_that_cannot_be_are_refused() -> None:
    encoder = GaussianEncoder(MLP(DIM, width=8, outputs=6), 3)
    with pytest.raises(TypeError, match=r"posterior must be a LangevinPosterior, .* got NormalPrior"):
        LatentPrior(MLPGenerator(LATENT, DIM), NormalPrior(), None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="batch_norm=False"):
        LatentPrior(MLPGenerator(LATENT, DIM, batch_norm=True), LangevinPosterior(), None)
    with pytest.raises(ValueError, match="latents of one size, got 3 and 2"):
        LatentPrior(MLPGenerator(LATENT, DIM), VariationalPosterior(encoder=encoder), None)


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
