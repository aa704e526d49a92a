"""Losses with chains against maximum likelihood and energy discrepancy."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from chainfree.energies import Gaussian
from chainfree.losses import ContrastiveDivergence, EnergyDiscrepancy, RecoveryLikelihood, ShortRun
from chainfree.perturbations import Gaussian as GaussianNoise
from chainfree.samplers.chain import Chain


class Normal(nn.Module):
    """E = (x - m)^2 exp(p) / 2, whose log-likelihood has a gradient in closed form."""

    def __init__(self, mean: float, log_precision: float) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.tensor(mean, dtype=torch.float64))
        self.log_precision = nn.Parameter(torch.tensor(log_precision, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * (x[:, 0] - self.mean).square() * self.log_precision.exp()

    def likelihood_gradient(self, x: Tensor) -> Tensor:
        """Of the mean negative log-likelihood."""
        values = self(x) - 0.5 * self.log_precision + 0.5 * math.log(2 * math.pi)
        return torch.stack(torch.autograd.grad(values.mean(), list(self.parameters())))


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _data(n: int) -> Tensor:
    return 1.0 + 0.8 * torch.randn(n, 1, dtype=torch.float64, generator=_seeded(1))


def _gradients(loss: object, energy: nn.Module, x: Tensor, repeats: int) -> Tensor:
    found = []
    for seed in range(repeats):
        value = loss(energy, x, generator=_seeded(seed)).loss  # type: ignore[operator]
        found.append(torch.stack(torch.autograd.grad(value, list(energy.parameters()))))
    return torch.stack(found)


def _within(found: Tensor, expected: Tensor, errors: float = 4.0) -> bool:
    error = found.std(0) / len(found) ** 0.5
    return bool(((found.mean(0) - expected).abs() < errors * error).all())


def test_long_chains_have_the_likelihood_s_gradient() -> None:
    energy, x = Normal(0.3, -0.5), _data(2000)
    long = ContrastiveDivergence(chain=Chain(steps=60, step_size=1.0, adjusted=True))
    expected = energy.likelihood_gradient(x)
    assert _within(_gradients(long, energy, x, 20), expected)
    short = _gradients(ContrastiveDivergence(chain=Chain(steps=1, step_size=0.05)), energy, x, 20)
    assert not _within(short, expected, 10)  # and one step has not


def test_short_runs_from_far_away_are_biased_and_long_ones_are_not() -> None:
    energy, x = Normal(0.3, -0.5), _data(2000)
    start = Gaussian(torch.tensor([4.0], dtype=torch.float64))
    expected = energy.likelihood_gradient(x)
    long = ShortRun(initial=start, chain=Chain(steps=80, step_size=1.0, adjusted=True))
    assert _within(_gradients(long, energy, x, 20), expected)
    short = ShortRun(initial=start, chain=Chain(steps=3, step_size=0.1))
    assert not _within(_gradients(short, energy, x, 20), expected, 10)


def test_the_recovery_likelihood_has_its_closed_form() -> None:
    """With the noised row known the recovery is normal: its energy's gradient is that of -log p(x | noised), averaged."""
    energy, x, s = Normal(0.3, -0.5), _data(4000), 0.7
    found = _gradients(RecoveryLikelihood(scale=s, chain=Chain(steps=40, step_size=0.8, adjusted=True)), energy, x, 20)
    expected = []
    for seed in range(100, 400):
        noised = x[:, 0] + s * torch.randn(len(x), dtype=torch.float64, generator=_seeded(seed))
        precision = energy.log_precision.exp() + 1 / s**2
        mean = (energy.log_precision.exp() * energy.mean + noised / s**2) / precision
        value = (0.5 * precision * (x[:, 0] - mean).square() - 0.5 * precision.log()).mean()
        expected.append(torch.stack(torch.autograd.grad(value, list(energy.parameters()))))
    assert _within(found, torch.stack(expected).mean(0))


def test_it_is_energy_discrepancy_with_many_draws() -> None:
    """Steps and importance weights reach the same posterior: equal gradients, for another energy than the data's."""
    energy, x, s = Normal(0.3, -0.5), _data(1000), 0.7
    steps = _gradients(RecoveryLikelihood(scale=s, chain=Chain(steps=40, step_size=0.8, adjusted=True)), energy, x, 40)
    weights = _gradients(EnergyDiscrepancy(perturbation=GaussianNoise(t=s**2), draws=500, w=1.0), energy, x, 40)
    error = ((steps.var(0) + weights.var(0)) / 40).sqrt()
    assert bool(((steps.mean(0) - weights.mean(0)).abs() < 4 * error + 0.01).all())


def test_the_energies_penalty_is_added() -> None:
    energy, x = Normal(0.3, -0.5), _data(50)
    plain = ContrastiveDivergence()(energy, x, generator=_seeded())
    squares = ContrastiveDivergence(energy_square=0.5)(energy, x, generator=_seeded())
    ends = Chain()(energy, x, generator=_seeded())
    expected = 0.5 * (energy(x).square().mean() + energy(ends).square().mean())
    torch.testing.assert_close(squares.loss - plain.loss, expected)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 0}, "steps must be a whole number above 0"),
        ({"step_size": -1.0}, "step_size must be a finite number above 0"),
        ({"noise": -0.1}, "noise must be a finite number of at least 0"),
        ({"noise": 0.1, "adjusted": True}, "leave noise out"),
    ],
)
def test_settings_of_chains_are_checked(options: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Chain(**options)


@pytest.mark.parametrize("make", [ContrastiveDivergence, lambda **o: ShortRun(initial=Gaussian([0.0]), **o)])
def test_settings_of_losses_are_checked(make: type[ContrastiveDivergence]) -> None:
    with pytest.raises(ValueError, match="energy_square"):
        make(energy_square=-1.0)
    with pytest.raises(ValueError, match="scale must be a finite number above 0"):
        RecoveryLikelihood(scale=0.0)


def test_adjusted_chains_keep_the_density_and_others_only_nearly() -> None:
    energy = Normal(0.0, 0.0)
    start = torch.randn(200_000, 1, dtype=torch.float64, generator=_seeded(2))
    variances = [
        float(Chain(steps=15, step_size=1.0, adjusted=adjusted)(energy, start, generator=_seeded(3)).var())
        for adjusted in (True, False)
    ]
    error = (2 / 200_000) ** 0.5
    assert abs(variances[0] - 1) < 4 * error
    assert abs(variances[1] - 4 / 3) < 6 * error  # 1 / (1 - h / 4)


def test_short_runs_start_where_they_are_told_and_contrastive_divergence_in_the_data() -> None:
    energy, x = Normal(0.3, -0.5), _data(50)
    start = Gaussian(torch.tensor([4.0], dtype=torch.float64))
    still = Chain(steps=1, step_size=1e-12, noise=0.0)
    short = ShortRun(initial=start, chain=still)(energy, x, generator=_seeded())
    expected = energy(start.sample(50, generator=_seeded())).mean()
    torch.testing.assert_close(short.metrics["energy_samples"], expected.detach())
    divergence = ContrastiveDivergence(chain=still)(energy, x, generator=_seeded())
    torch.testing.assert_close(divergence.metrics["energy_samples"], energy(x).mean().detach())
