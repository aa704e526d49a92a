"""Cooperative learning: its turns against closed forms of linear generators, and what it learns."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import chainfree as cf
from chainfree.engine import Engine, OptimizerSettings
from chainfree.generators import DeconvGenerator, LinearGenerator, MLPGenerator
from chainfree.objectives import Cooperative
from chainfree.samplers import langevin
from chainfree.typing import Batch, Update

SLOPE, SIGMA = 0.8, 0.3


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _linear() -> LinearGenerator:
    return LinearGenerator(torch.tensor([[SLOPE]], dtype=torch.float64), sigma=SIGMA)


def _normal(x: Tensor) -> Tensor:
    return 0.5 * x.square().sum(1)


class Normal(nn.Module):
    """A normal with a mean and a log-precision to learn."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(()))
        self.log_precision = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * self.log_precision.exp() * (x - self.mean).square().sum(1)


def _round(objective: Cooperative, rows: int) -> list[Update]:
    data = torch.zeros(rows, 1, dtype=torch.float64)
    return list(objective.updates(_normal, Batch(data), 0, _seeded()))


def test_the_energy_s_turn_contrasts_data_with_revised_samples() -> None:
    steps, h, rows = 4, 0.3, 200_000
    energy_turn, generator_turn = _round(Cooperative(_linear(), steps=steps, step_size=h), rows)
    assert (energy_turn.player, generator_turn.player) == ("energy", "generator")
    shrink = (1 - h / 2) ** (2 * steps)
    stationary = 1 / (1 - h / 4)
    variance = shrink * (SLOPE**2 + SIGMA**2) + (1 - shrink) * stationary
    # the data are zeros, of energy zero
    assert energy_turn.loss.item() == pytest.approx(-variance / 2, rel=0.015)
    assert energy_turn.metrics["energy_samples"].item() == pytest.approx(variance / 2, rel=0.015)
    moved = (1 - (1 - h / 2) ** steps) ** 2 * (SLOPE**2 + SIGMA**2) + (1 - shrink) * stationary
    assert energy_turn.metrics["revision"].item() == pytest.approx(math.sqrt(moved), rel=0.01)


def test_known_latents_are_regressed_on_so_the_best_slope_is_shrunk_and_sigma_what_is_left() -> None:
    steps, h = 4, 0.3
    net = _linear()
    _, turn = _round(Cooperative(net, steps=steps, step_size=h), 400_000)
    slope_gradient, sigma_gradient = torch.autograd.grad(turn.loss, [net.weight, net.log_sigma])
    # revised = a (w z + sigma eps) + noise, a = (1 - h/2)^T
    a = (1 - h / 2) ** steps
    rest = a**2 * SIGMA**2 + (1 - a**2) / (1 - h / 4)
    assert slope_gradient.item() == pytest.approx((SLOPE - a * SLOPE) / SIGMA**2, rel=0.03)
    assert sigma_gradient.item() == pytest.approx(1 - (rest + (SLOPE - a * SLOPE) ** 2) / SIGMA**2, rel=0.03)


def test_with_inferred_latents_the_gradient_is_that_of_maximum_likelihood_on_the_revisions() -> None:
    steps, h, rows = 4, 0.3, 100_000
    net = _linear()
    objective = Cooperative(net, steps=steps, step_size=h, inference_steps=40, inference_step_size=1.5)
    _, turn = _round(objective, rows)
    assert 0.5 < turn.metrics["acceptance"].item() < 1.0
    found = torch.autograd.grad(turn.loss, [net.weight, net.log_sigma])
    # the same revisions again, and the generator's exact density (Fisher's identity)
    generator = _seeded()
    x = net.sample(rows, generator=generator).x.detach()
    revised = langevin(_normal, x, steps=steps, step_size=h, generator=generator)
    expected = torch.autograd.grad(-net.log_prob(revised).mean(), [net.weight, net.log_sigma])
    assert expected[0].item() < -0.3  # known latents would say +3: the other way
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.item() == pytest.approx(theirs.item(), abs=0.02)


def test_it_fits_a_normal_with_both_players() -> None:
    x = 1.0 + 0.7 * torch.randn(4000, 1, generator=_seeded())
    energy, net = Normal(), LinearGenerator(torch.tensor([[0.4]]), sigma=0.2)
    objective = Cooperative(net, steps=10, step_size=0.05, inference_steps=5, inference_step_size=2.0)
    engine = Engine(energy, objective, ema=0.98, optimizer=OptimizerSettings(lr=3e-2))
    engine.fit(cf.batches(x, size=256), steps=300)
    fitted, averaged = engine.averaged(energy), engine.averaged(net)
    assert fitted.mean.item() == pytest.approx(1.0, abs=0.15)
    assert math.exp(-0.5 * fitted.log_precision.item()) == pytest.approx(0.7, abs=0.08)
    assert averaged.bias.item() == pytest.approx(1.0, abs=0.15)
    assert math.hypot(averaged.weight.item(), averaged.sigma.item()) == pytest.approx(0.7, abs=0.1)


def test_known_latents_make_the_generator_forget_them_where_revisions_are_not_small() -> None:
    # what the docstring warns of, in the setting of the test before
    x = 1.0 + 0.7 * torch.randn(4000, 1, generator=_seeded())
    net = LinearGenerator(torch.tensor([[0.4]]), sigma=0.2)
    engine = Engine(
        Normal(), Cooperative(net, steps=10, step_size=0.05), ema=0.98, optimizer=OptimizerSettings(lr=3e-2)
    )
    engine.fit(cf.batches(x, size=256), steps=300)
    assert abs(engine.averaged(net).weight.item()) < 0.1


def test_a_frozen_sigma_stays() -> None:
    net = MLPGenerator(2, 2, width=8, depth=1)
    net.log_sigma.requires_grad_(False)
    objective = Cooperative(net, steps=2)
    assert len(objective.players(nn.Linear(2, 1))["generator"]) == len(list(net.parameters())) - 1
    engine = Engine(cf.energies.MLP(2, width=8, depth=1), objective)
    engine.fit(cf.batches(torch.randn(64, 2), size=32), steps=3)
    assert net.sigma.item() == pytest.approx(0.1)


@pytest.mark.parametrize("inference_steps", [0, 2])
def test_images_and_every_player_s_gradient(inference_steps: int) -> None:
    energy, net = cf.energies.ConvNet(size=8, widths=(4,)), DeconvGenerator(3, size=8, widths=(4,))
    objective = Cooperative(net, steps=2, inference_steps=inference_steps, gradient_penalty=0.1, samples=5)
    players = objective.players(energy)
    for update in objective.updates(energy, Batch(torch.randn(6, 1, 8, 8)), 0, _seeded()):
        gradients = torch.autograd.grad(update.loss, players[update.player], retain_graph=True)
        assert all(bool(torch.isfinite(g).all()) for g in gradients)
        assert sum(float(g.abs().sum()) for g in gradients) > 0
        assert not any(value.requires_grad for value in update.metrics.values())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 0}, "steps must be a whole number above 0, got 0"),
        ({"step_size": 0.0}, r"step_size must be a finite number above 0, got 0\.0"),
        ({"noise": -0.1}, "noise must"),
        ({"inference_steps": -1}, "inference_steps must be a whole number"),
        ({"inference_step_size": 0.0}, "inference_step_size must"),
        ({"gradient_penalty": -1.0}, "gradient_penalty must"),
        ({"energy_square": -1.0}, "energy_square must"),
        ({"samples": 0}, "samples must be a whole number above 0, got 0"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Cooperative(MLPGenerator(2, 2), **options)
