"""Every loss keeps the protocol of `chainfree.typing.Loss`."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from chainfree import losses
from chainfree.checks import ContractError
from chainfree.energies import MLP, NICE, Telescope
from chainfree.energies import Gaussian as Normal
from chainfree.losses import (
    ConditionalNCE,
    ContrastiveDivergence,
    DenoisingScoreMatching,
    EnergyDiscrepancy,
    FiniteDifferenceScoreMatching,
    MaximumLikelihood,
    RecoveryLikelihood,
    ScoreMatching,
    ShortRun,
    SlicedScoreMatching,
    TelescopingRatios,
)
from chainfree.perturbations import Gaussian, JumpPairs, LocalPairs, LogUniform, OrnsteinUhlenbeck
from chainfree.samplers.chain import Chain
from chainfree.typing import Loss, LossOutput


class AnyType:
    """A standard normal for rows of any type."""

    def log_prob(self, x: Tensor, /) -> Tensor:
        return -(0.5 * x.square() + 0.5 * math.log(2 * math.pi)).sum(1)

    def sample(self, n: int, /, *, generator: torch.Generator | None = None) -> Tensor:
        return torch.randn(n, 2, generator=generator)


CASES: dict[str, Loss] = {
    "energy-discrepancy": EnergyDiscrepancy(),
    "energy-discrepancy-unstabilised": EnergyDiscrepancy(w=0.0, draws=8),
    "energy-discrepancy-chunked": EnergyDiscrepancy(draws=9, chunk=2),
    "energy-discrepancy-all-scales": EnergyDiscrepancy(perturbation=Gaussian(t=LogUniform(low=0.01, high=10.0))),
    "energy-discrepancy-diffusion": EnergyDiscrepancy(perturbation=OrnsteinUhlenbeck()),
    "energy-discrepancy-reference": EnergyDiscrepancy(reference=AnyType()),
    "energy-discrepancy-reference-alone": EnergyDiscrepancy(reference=AnyType(), share=1.0, draws=2),
    "score-matching": ScoreMatching(),
    "sliced-score-matching": SlicedScoreMatching(),
    "sliced-score-matching-plain": SlicedScoreMatching(projections=3, variance_reduction=False),
    "maximum-likelihood": MaximumLikelihood(),
    "denoising": DenoisingScoreMatching(),
    "denoising-plain": DenoisingScoreMatching(antithetic=False),
    "denoising-many-scales": DenoisingScoreMatching(spread=10.0, target_scale=0.2),
    "denoising-per-feature": DenoisingScoreMatching(scale=(0.1, 0.3)),
    "finite-difference": FiniteDifferenceScoreMatching(),
    "conditional-nce": ConditionalNCE(),
    "conditional-nce-many-scales": ConditionalNCE(pairs=LocalPairs(spread=10.0), draws=3),
    "conditional-nce-jumps": ConditionalNCE(pairs=JumpPairs(jump=AnyType()), draws=2),
    "contrastive-divergence": ContrastiveDivergence(),
    "contrastive-divergence-adjusted": ContrastiveDivergence(chain=Chain(steps=3, step_size=0.5, adjusted=True)),
    "short-run": ShortRun(initial=Normal(torch.zeros(2)), chain=Chain(steps=3)),
    "recovery-likelihood": RecoveryLikelihood(),
    "telescoping": TelescopingRatios(power=2.0),
}

DETERMINISTIC = (ScoreMatching, MaximumLikelihood)
# losses of chains, whose gradient treats the chains' ends as given
CHAINED = (ContrastiveDivergence, ShortRun, RecoveryLikelihood)


class Returns(nn.Module):
    """Any function as an energy, normalised as it says."""

    normalised = True

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@pytest.fixture(params=CASES, ids=str)
def loss(request: pytest.FixtureRequest) -> Loss:
    return CASES[request.param]


@pytest.fixture
def energy(loss: Loss) -> nn.Module:
    """A network, and a normalised one or one made of ratios for the losses that take no other."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if isinstance(loss, MaximumLikelihood):
            return NICE(2, width=8, depth=2)
        if isinstance(loss, TelescopingRatios):
            telescope = Telescope(Normal(torch.zeros(2)), [MLP(2, width=8, depth=1) for _ in range(3)])
            for bridge in telescope.bridges:
                nn.init.normal_(bridge.layers[-1].weight)  # zero at the start, which hides the layers below
            return telescope
        return MLP(2, width=8, depth=2)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(12, 2, generator=torch.Generator().manual_seed(1))


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_no_loss_is_left_out() -> None:
    classes = {name for name in losses.__all__ if isinstance(getattr(losses, name), type)}
    assert classes == {type(loss).__name__ for loss in CASES.values()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_scalar_with_a_graph_and_detached_metrics(
    loss: Loss, energy: nn.Module, x: Tensor, dtype: torch.dtype
) -> None:
    output = loss(energy.to(dtype), x.to(dtype), generator=_seeded())
    assert isinstance(output, LossOutput)
    assert output.loss.shape == ()
    assert output.loss.dtype == dtype
    assert output.loss.requires_grad
    assert output.metrics
    for name, value in output.metrics.items():
        assert value.shape == (), name
        assert not value.requires_grad, name
        assert torch.isfinite(value), name


def test_gradients_flow_to_every_weight_and_not_to_the_caller_s_rows(loss: Loss, energy: nn.Module, x: Tensor) -> None:
    kept = x.clone()
    loss(energy, x, generator=_seeded()).loss.backward()
    assert not x.requires_grad
    assert torch.equal(x, kept)
    constant = energy.layers[4].bias if isinstance(energy, MLP) else None  # a normalised energy has none
    for name, parameter in energy.named_parameters():
        if parameter is not constant:
            assert parameter.grad is not None
            assert bool((parameter.grad != 0).any()), name
    # losses do not see the energy's constant; those of its derivatives do not even reach it
    assert constant is None or constant.grad is None or constant.grad.abs().item() < 1e-6


def test_gradients_are_those_of_finite_differences(loss: Loss, energy: nn.Module, x: Tensor) -> None:
    if isinstance(loss, CHAINED):
        pytest.skip("the gradient is that of the contrast with the chains held: see tests/losses/test_chains.py")
    energy, x = energy.double(), x.double()
    loss(energy, x, generator=_seeded()).loss.backward()
    h = 1e-5
    for parameter in energy.parameters():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        along = torch.randn(parameter.shape, dtype=torch.float64, generator=_seeded(7))
        with torch.no_grad():
            parameter.add_(h * along)
            up = loss(energy, x, generator=_seeded()).loss
            parameter.sub_(2 * h * along)
            down = loss(energy, x, generator=_seeded()).loss
            parameter.add_(h * along)
        torch.testing.assert_close((gradient * along).sum(), (up - down) / (2 * h), rtol=1e-4, atol=1e-8)


def test_the_same_seed_is_the_same_loss(loss: Loss, energy: nn.Module, x: Tensor) -> None:
    before = torch.get_rng_state()
    first, second, other = (loss(energy, x, generator=_seeded(seed)).loss for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, second)
    assert torch.equal(first, other) == isinstance(loss, DETERMINISTIC)


def test_without_gradients_it_is_the_same_number(loss: Loss, energy: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        quiet = loss(energy, x, generator=_seeded())
    assert not quiet.loss.requires_grad
    torch.testing.assert_close(quiet.loss, loss(energy, x, generator=_seeded()).loss.detach())


def test_a_constant_in_the_energy_changes_nothing(loss: Loss, energy: nn.Module, x: Tensor) -> None:
    energy, x = energy.double(), x.double()
    if isinstance(loss, MaximumLikelihood | TelescopingRatios):
        # what counts every nat does not take what has been shifted
        with pytest.raises(TypeError, match=r"normalised|Telescope"):
            loss(lambda rows: energy(rows) + 1e3, x, generator=_seeded())
        return
    plain = loss(energy, x, generator=_seeded()).loss
    shifted = loss(lambda rows: energy(rows) + 1e3, x, generator=_seeded()).loss
    torch.testing.assert_close(shifted, plain, rtol=1e-9, atol=1e-9)


def test_an_energy_out_of_shape_is_refused(loss: Loss, x: Tensor) -> None:
    if isinstance(loss, TelescopingRatios):

        class Column(MLP):
            def forward(self, x: Tensor) -> Tensor:
                return super().forward(x)[:, None]

        with pytest.raises(ContractError, match="squeeze the last axis"):
            loss(Telescope(Normal(torch.zeros(2)), [Column(2)]), x, generator=_seeded())
        return
    with pytest.raises(ContractError, match="squeeze the last axis"):
        loss(Returns(lambda rows: rows[:, :1]), x, generator=_seeded())
    with pytest.raises(ContractError, match="one number for the whole batch"):
        loss(Returns(lambda rows: rows.mean()), x, generator=_seeded())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_at_data_is_not_hidden(loss: Loss, energy: nn.Module, x: Tensor, bad: float) -> None:
    if isinstance(loss, TelescopingRatios):
        spoilt = energy
        assert isinstance(spoilt, Telescope)
        with torch.no_grad():
            spoilt.bridges[1].layers[-1].bias.fill_(bad)
    else:
        spoilt = Returns(lambda rows: torch.where(rows[:, 0] > x[:, 0].median(), bad, 1.0) * energy(rows).abs())
    assert not torch.isfinite(loss(spoilt, x, generator=_seeded()).loss)


def test_rows_of_integers_are_refused_in_words(loss: Loss) -> None:
    if isinstance(loss, MaximumLikelihood):
        pytest.skip("whether its rows are floats is the density's business")
    energy = Telescope(AnyType(), [MLP(2)]) if isinstance(loss, TelescopingRatios) else MLP(2)
    with pytest.raises(ContractError, match="convert"):
        loss(energy, torch.zeros(4, 2, dtype=torch.long), generator=_seeded())
