"""VERA's turns, its losses against references written out by hand, and where the game's generator ends."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from chainfree.checks import ContractError
from chainfree.energies import MLP, Gaussian
from chainfree.entropy import EntropyEstimate, ExactLinear, HMCPosterior, ImportancePosterior, LocalVolume
from chainfree.generators import Draw, LatentGenerator, LinearGenerator
from chainfree.objectives import VERA, WeightedNegatives
from chainfree.typing import Batch

DIM = 2


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _rows(n: int = 10, seed: int = 5) -> Tensor:
    return torch.randn(n, DIM, dtype=torch.float64, generator=_seeded(seed))


def _net(sigma: float = 0.3) -> LinearGenerator:
    weight = torch.randn(DIM, DIM, dtype=torch.float64, generator=_seeded(6))
    return LinearGenerator(weight, torch.tensor([0.3, -0.2], dtype=torch.float64), sigma=sigma)


class Watched(nn.Module):
    """An energy that remembers the rows it was shown, in whatever number of passes."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = MLP(DIM, width=8, depth=2).double()
        self._seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self._seen.append(x.detach().clone())
        values: Tensor = self.inner(x)
        return values

    def seen(self) -> Tensor:
        """Since it was last asked."""
        rows, self._seen = torch.cat(self._seen), []
        return rows


class Spy:
    """The exact entropy, and a record of the draws it was asked about."""

    passes = 0.0

    def __init__(self) -> None:
        self.draws: list[Draw] = []

    def __call__(
        self, net: LatentGenerator, draw: Draw, *, generator: torch.Generator | None = None
    ) -> EntropyEstimate:
        self.draws.append(draw)
        return ExactLinear()(net, draw, generator=generator)


def _game(**options: Any) -> VERA:
    few = {"samples": 12} if options.get("negatives") else {}
    return VERA(_net(), **{"entropy": Spy(), **few, **options})


def _weighted(**options: Any) -> WeightedNegatives:
    wide = Gaussian(torch.zeros(DIM).double(), 9 * torch.eye(DIM).double())
    return WeightedNegatives(**{"defensive": wide, **options})


# -- turns -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "energy generator"),
        ({"energy_steps": 3}, "energy energy energy generator"),
        ({"generator_steps": 2}, "energy generator generator"),
        ({"entropy": ImportancePosterior(DIM).double()}, "energy posterior generator"),
        ({"entropy": HMCPosterior().double()}, "energy generator"),
        (
            {"entropy": ImportancePosterior(DIM).double(), "energy_steps": 2, "generator_steps": 2},
            "energy energy posterior generator generator",
        ),
    ],
)
def test_turns(options: dict[str, Any], expected: str) -> None:
    game, energy = _game(**options), Watched()
    turns = [turn.player for turn in game.updates(energy, Batch(_rows()), 0, _seeded())]
    assert turns == expected.split()
    assert list(game.players(energy)) == list(dict.fromkeys(turns))


@pytest.mark.parametrize("weighted", [False, True])
def test_the_generator_s_first_turn_is_on_what_the_energy_saw_last(weighted: bool) -> None:
    game = _game(energy_steps=2, generator_steps=2, negatives=_weighted() if weighted else None)
    energy, x = Watched(), _rows()
    n = 12 if weighted else 10
    first, second, third, fourth = (energy.seen() for _ in game.updates(energy, Batch(x), 0, _seeded()))
    assert torch.equal(first[:10], x) and torch.equal(second[:10], x)
    assert not torch.equal(first[10 : 10 + n], second[10 : 10 + n])  # every energy turn has its own samples
    assert len(second) == 10 + n + (3 if weighted else 0)
    assert torch.equal(third, second[10 : 10 + n])
    # the next turn is on fresh ones; weighted, they are shown with the wide rows before
    assert len(fourth) == (n + 3 + n if weighted else n)
    assert not torch.equal(fourth[-n:], third)
    draws = game.entropy.draws
    assert [torch.equal(draw.x, x) for draw, x in zip(draws, (third, fourth[-n:]), strict=True)] == [True, True]


def test_turns_see_what_the_turns_before_have_done() -> None:
    game, energy = _game(), Watched()
    turns = game.updates(energy, Batch(_rows()), 0, _seeded())
    next(turns)
    with torch.no_grad():
        for parameter in energy.parameters():
            parameter.mul_(1.7)
    update = next(turns)
    x = game.entropy.draws[0].x
    expected = energy.inner(x).mean() - game.generator.entropy()
    torch.testing.assert_close(update.loss, expected)


def test_only_the_last_samples_carry_a_graph() -> None:
    game, energy, graphs = _game(energy_steps=3), Watched(), []
    game.generator.register_forward_hook(lambda net, inputs, mean: graphs.append(mean.requires_grad))
    parameters = list(game.generator.parameters())
    for update in game.updates(energy, Batch(_rows()), 0, _seeded()):
        # the energy's turn has nothing to do with the generator
        gradients = torch.autograd.grad(update.loss, parameters, allow_unused=True, retain_graph=True)
        assert any(gradient is not None for gradient in gradients) == (update.player == "generator")
    assert graphs == [False, False, True]


def test_how_many_samples() -> None:
    for options, n in [
        ({}, 10),
        ({"samples": 7}, 7),
        ({"negatives": _weighted(defensive=None)}, 12),
        ({"samples": 7, "negatives": _weighted(defensive=None)}, 7),
    ]:
        game, energy = _game(**options), Watched()
        shown = [len(energy.seen()) for _ in game.updates(energy, Batch(_rows()), 0, _seeded())]
        assert shown == [10 + n, n]
        assert len(game.entropy.draws[0].z) == n


def test_the_entropy_can_be_estimated_on_a_part() -> None:
    game, energy = _game(entropy_samples=4), Watched()
    _, shown = (energy.seen() for _ in game.updates(energy, Batch(_rows()), 0, _seeded()))
    (part,) = game.entropy.draws
    assert {len(rows) for rows in part[:4]} == {4}
    assert torch.equal(part.x, shown[:4])
    assert len(shown) == 10


def test_without_weight_the_entropy_is_not_estimated() -> None:
    game, energy = _game(entropy_weight=0.0), Watched()
    *_, update = game.updates(energy, Batch(_rows()), 0, _seeded())
    assert game.entropy.draws == []
    torch.testing.assert_close(update.loss, energy.inner(energy.seen()[-10:]).mean())


# -- losses ------------------------------------------------------------------------------------------------------------


def _reference(
    energy: nn.Module, x: Tensor, samples: Tensor, *, penalty: float, square: float, weights: Tensor
) -> Tensor:
    """The formula, term by term, each from its own pass; rows' slopes one at a time."""
    slopes = torch.func.vmap(torch.func.grad(lambda row: energy(row[None])[0]))(x)
    loss = energy(x).mean() - (weights * energy(samples)).sum()
    loss = loss + penalty / 2 * slopes.square().sum(1).mean()
    return loss + square * (energy(x).square().mean() + energy(samples).square().mean())


def _mixture(means: Tensor, sigma: Tensor) -> MixtureSameFamily:
    return MixtureSameFamily(
        Categorical(logits=torch.zeros(len(means), dtype=means.dtype)), Independent(Normal(means, sigma), 1)
    )


def _same_gradients(mine: Tensor, theirs: Tensor, module: nn.Module) -> None:
    parameters = dict(module.named_parameters())
    found, expected = (
        torch.autograd.grad(loss, list(parameters.values()), retain_graph=True, allow_unused=True)
        for loss in (mine, theirs)
    )
    assert any(gradient is not None and bool((gradient.abs() > 1e-6).any()) for gradient in expected)
    for name, one, other in zip(parameters, found, expected, strict=True):
        zeros = torch.zeros_like(parameters[name])
        torch.testing.assert_close(
            zeros if one is None else one, zeros if other is None else other, rtol=1e-8, atol=1e-9, msg=name
        )


@pytest.mark.parametrize("penalty", [0.0, 0.7])
@pytest.mark.parametrize("square", [0.0, 0.3])
def test_the_energy_s_loss_in_the_paper_s_game(penalty: float, square: float) -> None:
    game, energy, x = _game(gradient_penalty=penalty, energy_square=square), Watched(), _rows()
    update = next(game.updates(energy, Batch(x), 0, _seeded()))
    samples = energy.seen()[10:]
    even = torch.full((10,), 0.1, dtype=torch.float64)
    expected = _reference(energy.inner, x, samples, penalty=penalty, square=square, weights=even)
    torch.testing.assert_close(update.loss, expected)
    _same_gradients(update.loss, expected, energy)


@pytest.mark.parametrize("clip", [None, 1.5])
def test_the_energy_s_loss_with_weighted_negatives(clip: float | None) -> None:
    game, energy, x = _game(gradient_penalty=0.2, energy_square=0.1, negatives=_weighted(clip=clip)), Watched(), _rows()
    update = next(game.updates(energy, Batch(x), 0, _seeded()))
    samples = energy.seen()[10:]
    weights = _weights(game, energy, samples)
    if clip is not None:
        assert float(weights.max()) > clip / 15  # it binds
        weights = _clipped(weights, clip / 15)
    expected = _reference(energy.inner, x, samples, penalty=0.2, square=0.1, weights=weights)
    torch.testing.assert_close(update.loss, expected)
    _same_gradients(update.loss, expected, energy)
    torch.testing.assert_close(update.metrics["negatives_ess"], 1 / weights.square().sum())


def _weights(game: VERA, energy: Watched, samples: Tensor) -> Tensor:
    """e^-E over the density of 12 rows of the generator and 3 of the wide normal, normalised."""
    draw = game.generator.sample(12, generator=_seeded())
    assert torch.equal(draw.x, samples[:12])
    wide = torch.distributions.MultivariateNormal(torch.zeros(DIM).double(), 9 * torch.eye(DIM).double())
    density = 12 / 15 * _mixture(draw.mean, game.generator.sigma).log_prob(samples).exp()
    density = density + 3 / 15 * wide.log_prob(samples).exp()
    weights = torch.exp(-energy.inner(samples)) / density
    return (weights / weights.sum()).detach()


def _clipped(weights: Tensor, cap: float) -> Tensor:
    """The one multiple whose minimum with the cap sums to one, by bisection."""
    low, high = 1.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if float((middle * weights).clamp_max(cap).sum()) < 1 else (low, middle)
    return (high * weights).clamp_max(cap)


@pytest.mark.parametrize("entropy_weight", [0.25, 1.0])
@pytest.mark.parametrize("covering", [None, 0.0, 0.8])
def test_the_generator_s_loss(entropy_weight: float, covering: float | None) -> None:
    """Energy, exact entropy, and the cross-entropy of the weights that the energy's turn gave."""
    negatives = None if covering is None else _weighted(covering=covering)
    game, energy = _game(entropy_weight=entropy_weight, negatives=negatives), Watched()
    turns = game.updates(energy, Batch(_rows()), 0, _seeded())
    next(turns)
    samples = energy.seen()[10:]
    weights = None if negatives is None else _weights(game, energy, samples)
    with torch.no_grad():
        for parameter in energy.parameters():
            parameter.mul_(1.3)  # its step: the weights are not computed anew, the energy's slope is
    update = next(turns)
    net = game.generator
    draw = net.sample(len(game.entropy.draws[0].z), generator=_seeded())
    expected = energy.inner(draw.x).mean() - entropy_weight * net.entropy()
    if covering and weights is not None:
        expected = expected - covering * (weights * _mixture(draw.mean, net.sigma).log_prob(samples)).sum()
    _same_gradients(update.loss, expected, net)


def test_later_generator_turns_are_weighted_by_the_energy_as_it_is() -> None:
    game, energy = _game(negatives=_weighted(covering=2.0), generator_steps=2, entropy_weight=0.0), Watched()
    turns = game.updates(energy, Batch(_rows()), 0, _seeded())
    next(turns)
    with torch.no_grad():
        for parameter in energy.parameters():
            parameter.mul_(1.5)
    next(turns)
    update = next(turns)
    # the same draws again, in the order they are made: samples and wide rows, twice
    source, net, wide = _seeded(), game.generator, game.negatives.defensive
    for _ in range(2):
        draw = net.sample(12, generator=source)
        samples = torch.cat([draw.x.detach(), wide.sample(3, generator=source)])
    density = 12 / 15 * _mixture(draw.mean, net.sigma).log_prob(samples).exp() + 3 / 15 * wide.log_prob(samples).exp()
    weights = (torch.exp(-energy.inner(samples)) / density).detach()
    weights = weights / weights.sum()
    expected = energy.inner(draw.x).mean() - 2 * (weights * _mixture(draw.mean, net.sigma).log_prob(samples)).sum()
    torch.testing.assert_close(update.loss, expected)
    _same_gradients(update.loss, expected, net)


def test_metrics_are_mean_energies_and_detached() -> None:
    game = _game(negatives=_weighted(), entropy=ImportancePosterior(DIM).double())
    energy, x = Watched(), _rows()
    turns = list(game.updates(energy, Batch(x), 0, _seeded()))
    metrics = turns[0].metrics
    torch.testing.assert_close(metrics["energy_data"], energy.inner(x).mean().detach())
    # of the generator's samples alone, without the wide rows
    torch.testing.assert_close(metrics["energy_samples"], energy.inner(energy.seen()[10:22]).mean().detach())
    torch.testing.assert_close(metrics["sigma"], game.generator.sigma.detach())
    assert set(metrics) == {"energy_data", "energy_samples", "sigma", "negatives_ess"}
    assert set(turns[0].watched) == {"loss", "energy_data", "energy_samples"}
    assert set(turns[1].metrics) == {"posterior_loss"} and set(turns[2].metrics) == {"posterior_ess"}
    assert all(not value.requires_grad for turn in turns for value in turn.metrics.values())


def test_the_caller_s_rows_are_not_asked_for_a_gradient() -> None:
    game, x = _game(gradient_penalty=1.0), _rows()
    kept = x.clone()
    for update in game.updates(Watched(), Batch(x), 0, _seeded()):
        update.loss.backward()
    assert not x.requires_grad and x.grad is None and torch.equal(x, kept)


# -- where it ends -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entropy", "weight"),
    [(ExactLinear(), 1.0), (ExactLinear(), 0.5), (LocalVolume(DIM), 1.0), (LocalVolume(DIM), 2.0)],
)
def test_the_generator_s_optimum_is_the_tempered_energy(entropy: Any, weight: float) -> None:
    r"""Against a frozen normal of covariance S the generator ends at covariance :math:`\lambda S`: :math:`p^{1/\lambda}`."""
    mean = torch.tensor([0.5, -1.0], dtype=torch.float64)
    covariance = torch.tensor([[1.0, 0.6], [0.6, 0.8]], dtype=torch.float64)
    energy, net = Gaussian(mean, covariance), _net(sigma=0.2)
    game = VERA(net, entropy=entropy, entropy_weight=weight, gradient_penalty=0.0, samples=256)
    optimizer = torch.optim.Adam([net.weight, net.bias], lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 400)
    source, empty = _seeded(), Batch(_rows(1))
    for step in range(400):
        for update in game.updates(energy, empty, step, source):
            if update.player == "generator":
                optimizer.zero_grad()
                update.loss.backward()
                optimizer.step()
                schedule.step()
    reached = (net.weight @ net.weight.T + net.sigma.square() * torch.eye(DIM)).detach()
    torch.testing.assert_close(reached, weight * covariance, rtol=0.06, atol=0.02)
    torch.testing.assert_close(net.bias.detach(), mean, rtol=0, atol=0.05)


def test_at_the_optimum_the_generator_s_loss_is_the_bound_on_log_z() -> None:
    """With an entropy whose value is one, L_q is -log Z there and above it elsewhere."""
    covariance = torch.tensor([[1.0, 0.6], [0.6, 0.8]], dtype=torch.float64)
    energy = Gaussian(torch.zeros(DIM).double(), covariance)
    values = {}
    for scale in (1.0, 0.7):
        root = torch.linalg.cholesky(scale**2 * covariance - 0.01 * torch.eye(DIM).double())
        game = VERA(LinearGenerator(root, sigma=0.1), entropy=ExactLinear(), gradient_penalty=0.0, samples=100_000)
        *_, update = game.updates(energy, Batch(_rows(1)), 0, _seeded())
        values[scale] = float(update.loss.detach())
    assert values[1.0] == pytest.approx(-energy.log_z, abs=0.02)
    divergence = 0.5 * DIM * (0.7**2 - 1 - 2 * math.log(0.7))
    assert values[0.7] == pytest.approx(-energy.log_z + divergence, abs=0.02)


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_the_default_entropy_is_the_local_volume() -> None:
    entropy = VERA(_net()).entropy
    assert isinstance(entropy, LocalVolume) and entropy.latent_dim == DIM


def test_what_the_objective_holds_moves_and_is_saved_with_it() -> None:
    game = VERA(_net(), entropy=HMCPosterior(), negatives=_weighted())
    names = set(game.state_dict())
    assert {"generator.weight", "generator.log_sigma", "entropy.step_size", "_defensive.0.mean"} <= names
    game.float()
    assert game.negatives is not None
    assert game.negatives.defensive.mean.dtype == torch.float32  # type: ignore[union-attr]


def test_data_of_another_shape_are_refused() -> None:
    with pytest.raises(ContractError, match=r"data of shape \(3,\) cannot be compared with samples of \(2,\)"):
        next(_game().updates(Watched(), Batch(torch.zeros(4, 3)), 0, _seeded()))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"entropy_weight": -1.0}, "entropy_weight must be .*got -1.0"),
        ({"entropy_weight": math.nan}, "entropy_weight must be .*got nan"),
        ({"gradient_penalty": -0.1}, "gradient_penalty must be .*got -0.1"),
        ({"energy_square": -0.1}, "energy_square must be .*got -0.1"),
        ({"energy_steps": 0}, "energy_steps must be .*got 0"),
        ({"generator_steps": 0}, "generator_steps must be .*got 0"),
        ({"samples": 0}, "samples must be .*got 0"),
        ({"entropy_samples": 0}, "entropy_samples must be .*got 0"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        VERA(_net(), **options)
