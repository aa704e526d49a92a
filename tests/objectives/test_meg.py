"""MEG: its bound against quadrature, its turns, and what it learns."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal

import chainfree as cf
from chainfree.checks import ContractError
from chainfree.engine import Engine, OptimizerSettings
from chainfree.evaluation import mixture_modes
from chainfree.generators import DeconvGenerator, LinearGenerator, MLPGenerator, ResidualGenerator
from chainfree.generators.critics import ConvCritic, MLPCritic
from chainfree.objectives import MEG, jensen_shannon_bound
from chainfree.typing import Batch

SLOPE, SIGMA = 0.8, 0.3  # of a linear generator from one latent to one feature


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _linear() -> LinearGenerator:
    return LinearGenerator(torch.tensor([[SLOPE]], dtype=torch.float64), sigma=SIGMA)


class PointwiseInformation(nn.Module):
    """The best critic of that generator: log p(x | z) - log p(x)."""

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        spread = math.sqrt(SLOPE**2 + SIGMA**2)
        return (Normal(SLOPE * z, SIGMA).log_prob(x) - Normal(0.0, spread).log_prob(x)).squeeze(1)


def _twice_jensen_shannon() -> float:
    """By quadrature: KL(joint || middle) + KL(product || middle)."""
    axis = torch.linspace(-6, 6, 801, dtype=torch.float64)
    grid, cell = torch.cartesian_prod(axis, axis), float(axis[1] - axis[0]) ** 2
    variance = SLOPE**2 + SIGMA**2
    covariance = torch.tensor([[variance, SLOPE], [SLOPE, 1.0]], dtype=torch.float64)
    centre = torch.zeros(2, dtype=torch.float64)
    joint = MultivariateNormal(centre, covariance).log_prob(grid)
    product = MultivariateNormal(centre, torch.diag(covariance.diagonal())).log_prob(grid)
    middle = torch.logaddexp(joint, product) - math.log(2)
    return float((joint.exp() * (joint - middle) + product.exp() * (product - middle)).sum()) * cell


def test_the_bound_is_met_by_the_pointwise_information_and_by_no_other() -> None:
    net, best = _linear(), PointwiseInformation()
    draw = net.sample(200_000, generator=_seeded())
    truth = _twice_jensen_shannon()
    assert 0.3 < truth < 1.2
    met = MEG(net, best).information(draw.x.detach(), draw.z)
    assert met.shape == (200_000,)
    assert met.mean().item() == pytest.approx(truth, abs=0.006)
    for worse in (lambda x, z: 0.5 * best(x, z), lambda x, z: best(x, z) + 1.0, lambda x, z: 0 * best(x, z)):
        critic = best.__class__()
        critic.forward = worse  # type: ignore[method-assign]
        assert MEG(net, critic).information(draw.x.detach(), draw.z).mean().item() < truth - 0.02


def test_the_bound_s_range() -> None:
    high = torch.tensor([1e4], dtype=torch.float64)
    assert jensen_shannon_bound(high, -high).item() == pytest.approx(2 * math.log(2))
    assert jensen_shannon_bound(0 * high, 0 * high).item() == 0.0
    assert jensen_shannon_bound(-high, high).item() == pytest.approx(2 * math.log(2) - 2e4)


def test_shuffled_latents_are_no_row_s_own() -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    class Watching(nn.Module):
        def forward(self, x: Tensor, z: Tensor) -> Tensor:
            seen.append((x, z))
            return x.sum(1)

    z = torch.arange(5.0).unsqueeze(1)
    MEG(MLPGenerator(1, 1, width=4, depth=1), Watching()).information(10 * z, z)
    ((x, latents),) = seen  # one pass
    matching, shuffled = (x / 10 == latents).flatten().chunk(2)
    assert bool(matching.all()) and not bool(shuffled.any())
    assert sorted(latents[5:].flatten().tolist()) == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_the_generator_s_gradient_is_the_energy_s_less_lambda_times_the_bound_s() -> None:
    net = _linear()
    meg = MEG(net, PointwiseInformation(), entropy_weight=0.7)
    draw = net.sample(400_000, generator=_seeded())
    update = meg.generator_loss(lambda x: 0.5 * x.square().sum(1), draw)
    (found,) = torch.autograd.grad(update.loss, net.weight)
    # the energy's part by hand: d/dw (w^2 + sigma^2) / 2; the bound's by differences, the critic held as it is
    h, bounds = 0.02, []
    for slope in (SLOPE + h, SLOPE - h):
        x = slope * draw.z + SIGMA * draw.noise
        bounds.append(meg.information(x, draw.z).mean().item())
    expected = SLOPE - 0.7 * (bounds[0] - bounds[1]) / (2 * h)
    assert abs(bounds[0] - bounds[1]) / (2 * h) > 0.1
    assert found.item() == pytest.approx(expected, abs=0.02)


def test_turns_are_the_energy_s_the_critic_s_and_the_generator_s_on_the_same_samples() -> None:
    energy = cf.energies.MLP(2, width=8, depth=1)
    net, critic = MLPGenerator(2, 2, width=8, depth=1), MLPCritic(2, 2, width=8, depth=1)
    meg = MEG(net, critic, gradient_penalty=0.0, energy_steps=2, samples=7)
    assert list(meg.players(energy)) == ["energy", "critic", "generator"]
    batches: list[Tensor] = []

    def watched(x: Tensor) -> Tensor:
        batches.append(x)
        return energy(x)

    rounds = meg.updates(watched, Batch(torch.randn(5, 2)), 0, _seeded())
    assert [update.player for update in rounds] == ["energy", "energy", "critic", "generator"]
    first, second, third = batches
    assert len(first) == len(second) == 12 and len(third) == 7
    assert not torch.equal(first[5:], second[5:]) and torch.equal(second[5:], third)


def test_each_player_s_loss_reaches_its_parameters() -> None:
    energy = cf.energies.ConvNet(size=8, widths=(4,))
    meg = MEG(DeconvGenerator(3, size=8, widths=(4,)), ConvCritic(3, size=8, widths=(4,), features=5, width=6))
    players = meg.players(energy)
    for update in meg.updates(energy, Batch(torch.randn(6, 1, 8, 8)), 0, _seeded()):
        gradients = torch.autograd.grad(update.loss, players[update.player], retain_graph=True, allow_unused=True)
        for parameter, gradient in zip(players[update.player], gradients, strict=True):
            assert gradient is not None and gradient.shape == parameter.shape
            assert bool(torch.isfinite(gradient).all())
        assert sum(float(g.abs().sum()) for g in gradients if g is not None) > 0


def test_it_keeps_both_modes_of_a_mixture() -> None:
    means = torch.tensor([[-1.5, 0.0], [1.5, 0.0]])
    x = cf.energies.GaussianMixture(means, 0.04).sample(4000, generator=_seeded())
    net = ResidualGenerator(2, 2, width=32, depth=2)
    meg = MEG(net, MLPCritic(2, 2, width=32, depth=2), entropy_weight=0.5, gradient_penalty=0.02)
    settings = OptimizerSettings(lr=5e-3, betas=(0.0, 0.9))
    engine = Engine(cf.energies.MLP(2, width=32, depth=2), meg, ema=0.98, optimizer=settings)
    engine.fit(cf.batches(x, size=128), steps=400)
    samples = engine.averaged(net).sample(2000, generator=_seeded(1)).x
    found = mixture_modes(samples, means, std=0.2, deviations=4.0)
    assert found.worst_relative_error < 0.2
    assert found.within > 0.75
    energy = engine.averaged_energy()
    assert bool((energy(means) < energy(torch.zeros(1, 2)) - 3.0).all())


@pytest.mark.parametrize(("weight", "low", "high"), [(0.0, 0.0, 0.06), (10.0, 0.3, 1.0)])
def test_the_bound_is_what_keeps_a_generator_from_collapsing(weight: float, low: float, high: float) -> None:
    class Fixed(nn.Module):
        """A standard normal; its one parameter shifts all energies, so nothing learns from it."""

        def __init__(self) -> None:
            super().__init__()
            self.constant = nn.Parameter(torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            return 0.5 * x.square().sum(1) + self.constant

    net = MLPGenerator(2, 2, width=32, depth=2, sigma=0.05)
    meg = MEG(net, MLPCritic(2, 2, width=32, depth=2), entropy_weight=weight, gradient_penalty=0.0)
    engine = Engine(Fixed(), meg, optimizer=OptimizerSettings(lr=5e-3, betas=(0.0, 0.9)), ema=0.98)
    engine.fit(cf.batches(torch.randn(512, 2), size=128), steps=150)
    spread = engine.averaged(net).sample(2000, generator=_seeded()).x.std(0)
    assert low < spread.mean().item() < high


def test_its_critic_learns_to_rank_pairs() -> None:
    net = _linear().float()
    critic = MLPCritic(1, 1, width=32, depth=2)
    meg = MEG(net, critic)
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-2)
    generator = _seeded()
    for _ in range(200):
        optimizer.zero_grad()
        meg.critic_loss(net.sample(256, generator=generator)).loss.backward(inputs=list(critic.parameters()))
        optimizer.step()
    draw = net.sample(20_000, generator=generator)
    with torch.no_grad():
        ranked = (critic(draw.x, draw.z) > critic(draw.x, draw.z.roll(1, dims=0))).float().mean().item()
        best = PointwiseInformation()
        ideal = (best(draw.x, draw.z) > best(draw.x, draw.z.roll(1, dims=0))).float().mean().item()
    assert ideal - 0.02 < ranked <= ideal + 0.005
    reached = meg.critic_loss(draw).metrics["information"].item()
    assert _twice_jensen_shannon() - 0.06 < reached < _twice_jensen_shannon() + 0.02


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"entropy_weight": -1.0}, r"entropy_weight must be a finite number of at least 0, got -1\.0"),
        ({"gradient_penalty": -1.0}, "gradient_penalty must"),
        ({"energy_square": math.nan}, "energy_square must"),
        ({"energy_steps": 0}, "energy_steps must be a whole number above 0, got 0"),
        ({"samples": 0}, "samples must be a whole number above 0, got 0"),
        ({"samples": 1}, "shuffled latents take at least 2 samples a round, got 1"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        MEG(MLPGenerator(2, 2), MLPCritic(2, 2), **options)


def test_what_cannot_be_shuffled_or_is_no_critic_is_refused() -> None:
    net, energy = MLPGenerator(2, 2, width=4, depth=1), cf.energies.MLP(2, width=4, depth=1)
    with pytest.raises(ValueError, match="shuffled latents take at least 2 samples"):
        next(iter(MEG(net, MLPCritic(2, 2)).updates(energy, Batch(torch.zeros(1, 2)), 0, _seeded())))

    class Column(nn.Module):
        def forward(self, x: Tensor, z: Tensor) -> Tensor:
            return x[:, :1]

    with pytest.raises(ContractError, match=r"critic returned shape \(6, 1\) for 6 pairs"):
        MEG(net, Column()).information(torch.zeros(3, 2), torch.zeros(3, 2))
