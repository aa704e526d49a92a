"""A generator fitted to frozen energies whose samples, entropy and log Z are known."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from chainfree import TrainingDivergedError, fit_generator
from chainfree.energies import MLP, Gaussian, GaussianMixture
from chainfree.entropy import ExactLinear
from chainfree.generators import LinearGenerator, MLPGenerator, ResidualGenerator
from chainfree.objectives import Amortised, WeightedNegatives
from chainfree.samplers import resample


def _source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _linear() -> LinearGenerator:
    return LinearGenerator(torch.eye(2), torch.ones(2), sigma=0.1)


def test_a_linear_generator_becomes_the_gaussian() -> None:
    covariance = torch.tensor([[1.0, 0.6], [0.6, 0.8]])
    energy = Gaussian(torch.tensor([0.5, -0.5]), covariance)
    fit = fit_generator(energy, _linear(), entropy=ExactLinear(), samples=256, steps=600, lr=1e-2, annealing=0.0)
    weight, sigma = fit.generator.weight, float(fit.generator.sigma)
    torch.testing.assert_close(weight @ weight.T + sigma**2 * torch.eye(2), covariance, atol=0.08, rtol=0)
    torch.testing.assert_close(fit.generator.bias, torch.tensor([0.5, -0.5]), atol=0.05, rtol=0)
    assert fit.rounds == 600 and fit.seconds > 0


def test_it_covers_far_modes_and_resampling_gives_them_their_shares() -> None:
    means, weights = torch.tensor([[-2.0, 0.0], [2.0, 0.0]]), torch.tensor([0.3, 0.7])
    energy = GaussianMixture(means, 0.3**2, weights)
    fit = fit_generator(
        energy,
        ResidualGenerator(2, 2, scale=1.5, width=32, depth=2, frequencies=8, frequency_scale=2.0),
        negatives=WeightedNegatives(defensive=Gaussian(torch.zeros(2), 4 * torch.eye(2))),
        samples=128,
        steps=600,
        lr=3e-3,
        annealing=0.4,
    )
    x = fit.generator.sample(4000, generator=_source()).x
    assert 0.4 < float((x[:, 0] > 0).float().mean()) < 0.8
    assert float((torch.cdist(x, means).amin(1) < 1.2).float().mean()) > 0.85
    found = resample(energy, fit.generator, 2000, generator=_source())
    assert float((found.x[:, 0] > 0).float().mean()) == pytest.approx(0.7, abs=0.04)
    assert float((torch.cdist(found.x, means).amin(1) < 1.2).float().mean()) > 0.99
    assert 1000 < float(found.effective_sample_size) <= 4096


def test_nothing_of_the_caller_s_changes_and_the_seed_decides() -> None:
    torch.manual_seed(0)
    energy, start = MLP(2, width=8, depth=1).train(), _linear()
    before = copy.deepcopy(energy.state_dict()), copy.deepcopy(start.state_dict())
    state = torch.get_rng_state()
    one, same, other = (fit_generator(energy, start, samples=16, steps=5, seed=seed).generator for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    for module, saved in zip((energy, start), before, strict=True):
        assert all(torch.equal(module.state_dict()[name], value) for name, value in saved.items())
    assert energy.training and all(p.requires_grad and p.grad is None for p in energy.parameters())
    assert torch.equal(one.weight, same.weight) and not torch.equal(one.weight, other.weight)
    assert not one.training and not any(p.requires_grad for p in one.parameters())


def test_a_plain_function_is_an_energy_too() -> None:
    fit = fit_generator(lambda x: 0.5 * x.square().sum(1), _linear(), samples=16, steps=3)
    assert isinstance(fit.generator, LinearGenerator)


def test_an_energy_without_a_floor_is_a_divergence_and_says_so() -> None:
    with pytest.raises(TrainingDivergedError, match=r"energy_samples|loss"):
        fit_generator(lambda x: -1e7 * x.square().sum(1), _linear(), samples=16, steps=50)


def test_batch_statistics_are_those_of_the_returned_weights() -> None:
    torch.manual_seed(0)
    start = MLPGenerator(2, 2, width=16, depth=2, batch_norm=True)
    fit = fit_generator(lambda x: 0.5 * x.square().sum(1), start, samples=64, steps=60, lr=1e-2)
    z = torch.randn(20_000, 2, generator=_source())
    quiet = fit.generator(z)
    busy = copy.deepcopy(fit.generator).train()(z)
    torch.testing.assert_close(quiet.std(0), busy.std(0), rtol=0.05, atol=0.01)


def test_annealing_rises_to_one_geometrically() -> None:
    objective = Amortised(_linear(), start=0.04, annealing=10)
    betas = [objective.inverse_temperature(step) for step in (0, 5, 10, 99)]
    assert betas == pytest.approx([0.04, math.sqrt(0.04), 1.0, 1.0])


@pytest.mark.parametrize(
    ("options", "words"),
    [({"start": 0.0}, "start .*got 0.0"), ({"start": 1.5}, "at most 1, got 1.5"), ({"samples": 0}, "samples .*got 0")],
)
def test_settings_out_of_range(options: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Amortised(_linear(), **options)  # type: ignore[arg-type]


def test_the_energy_is_evaluated_once_a_row() -> None:
    seen: list[int] = []

    class Counted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(len(x))
            return 0.5 * x.square().sum(1)

    fit_generator(Counted(), _linear(), negatives=WeightedNegatives(), samples=8, steps=1)
    assert seen == [8]
