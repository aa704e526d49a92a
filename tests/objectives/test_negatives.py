"""Weighted negatives: a mixture whose density is known, and expectations under the energy that it stands in for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch import Tensor, nn

from chainfree.checks import ContractError
from chainfree.energies import Gaussian, GaussianMixture
from chainfree.functional import self_normalised
from chainfree.generators import LinearGenerator
from chainfree.objectives import WeightedNegatives


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _net(dim: int = 1) -> LinearGenerator:
    weight = torch.randn(dim, dim, dtype=torch.float64, generator=_seeded(5)) if dim > 1 else torch.ones(1, 1).double()
    return LinearGenerator(weight, sigma=0.3)


def _wide(dim: int = 1, scale: float = 2.0) -> Gaussian:
    return Gaussian(torch.zeros(dim).double(), scale**2 * torch.eye(dim).double())


@pytest.mark.parametrize("share", [0.01, 0.25, 1.5])
def test_the_density_is_the_mixture_s(share: float) -> None:
    net = _net(2)
    draw = net.sample(8, generator=_seeded())
    found = WeightedNegatives(defensive=_wide(2), share=share).propose(net, draw, _seeded(1))
    extra = max(1, round(8 * share))
    x = found.x.numpy()
    assert x.shape == (8 + extra, 2)
    assert torch.equal(found.x[:8], draw.x.detach())
    assert torch.equal(found.x[8:], _wide(2).sample(extra, generator=_seeded(1)))
    assert not found.x.requires_grad and not found.log_density.requires_grad
    logs = [
        stats.multivariate_normal(mean, 0.09 * np.eye(2)).logpdf(x) - math.log(8 + extra)
        for mean in draw.mean.detach().numpy()
    ]
    logs.append(stats.multivariate_normal(np.zeros(2), 4 * np.eye(2)).logpdf(x) + math.log(extra / (8 + extra)))
    np.testing.assert_allclose(found.log_density, special.logsumexp(logs, axis=0), rtol=1e-9)


def test_with_the_local_density_expectations_are_the_energy_s() -> None:
    """A normal that is wider than its target: weighted, its moments are the target's, in many dimensions too."""
    dim = 12
    net = LinearGenerator(0.7 * torch.eye(dim).double(), sigma=0.3)
    negatives = WeightedNegatives(density="local")
    assert negatives.covering_weight == 0.0 and WeightedNegatives().covering_weight == 1.0
    found = negatives.propose(net, net.sample(40_000, generator=_seeded()), _seeded(1))
    weights = self_normalised(-0.5 * found.x.square().sum(1) / 0.5 - found.log_density)
    assert float(weights.effective_sample_size) > 20_000
    variance = (weights.values.unsqueeze(1) * found.x.square()).sum(0)
    torch.testing.assert_close(variance, torch.full((dim,), 0.5).double(), rtol=0.1, atol=0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"density": "exact"}, "density must be"),
        ({"density": "local", "covering": 1.0}, "leave out"),
        ({"density": "local", "defensive": _wide(2)}, "leave out"),
    ],
)
def test_what_the_local_density_does_not_go_with_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        WeightedNegatives(**options)


def test_without_a_defensive_density_it_is_the_bank_s_alone() -> None:
    net = _net(2)
    draw = net.sample(8, generator=_seeded())
    found = WeightedNegatives().propose(net, draw, _seeded(1))
    assert torch.equal(found.x, draw.x.detach())
    logs = [stats.multivariate_normal(m, 0.09 * np.eye(2)).logpdf(found.x.numpy()) for m in draw.mean.detach().numpy()]
    np.testing.assert_allclose(found.log_density, special.logsumexp(logs, axis=0) - math.log(8), rtol=1e-9)


@pytest.mark.parametrize("defensive", [False, True])
def test_ratios_to_the_density_are_unbiased(defensive: bool) -> None:
    """Over a stratified draw of q, the mean of p / q is one for every density p within q's reach."""
    net, inside = _net(), Gaussian(torch.tensor([0.2]).double(), torch.tensor([[0.05]]).double())
    negatives = WeightedNegatives(defensive=_wide() if defensive else None)
    ratios = []
    for seed in range(600):
        draw = net.sample(40, generator=_seeded(2 * seed))
        found = negatives.propose(net, draw, _seeded(2 * seed + 1))
        ratios.append(float(torch.exp(inside.log_prob(found.x) - found.log_density).mean()))
    error = np.std(ratios) / math.sqrt(len(ratios))
    assert error < 0.02
    assert abs(np.mean(ratios) - 1) < 4.5 * error


def test_the_negative_phase_is_an_expectation_under_the_energy() -> None:
    """Of a function that the generator's own samples give another mean of."""
    energy = GaussianMixture(
        torch.tensor([[-1.5], [1.5]]).double(), covariance=0.25, weights=torch.tensor([0.3, 0.7]).double()
    )
    net = _net()
    negatives = WeightedNegatives(defensive=_wide())

    def functions(x: Tensor) -> Tensor:
        return torch.cat([x, x.square(), (x > 0).double()], dim=1)

    exact = np.array([1.5 * 0.4, 1.5**2 + 0.25, 0.7 * stats.norm.cdf(3) + 0.3 * stats.norm.cdf(-3)])
    weighted, even = [], []
    for seed in range(150):
        draw = net.sample(256, generator=_seeded(2 * seed))
        found = negatives.propose(net, draw, _seeded(2 * seed + 1))
        # the constant of the energy does not matter
        weights = self_normalised(-(energy(found.x) + 7.0) - found.log_density).values
        weighted.append((weights[:, None] * functions(found.x)).sum(0).numpy())
        even.append(functions(draw.x.detach()).mean(0).numpy())
    mean, error = np.mean(weighted, axis=0), np.std(weighted, axis=0) / math.sqrt(150)
    assert (error < 0.02).all()
    assert (np.abs(mean - exact) < 4.5 * error + 0.01).all()  # a bias of the order of 1 / N
    assert (np.abs(np.mean(even, axis=0) - exact) > 20 * error).any()


def test_a_defensive_share_bounds_the_weights() -> None:
    """Where the generator has never been: no weight is above what the defensive density alone would give."""
    energy = Gaussian(torch.tensor([4.0]).double(), torch.tensor([[0.25]]).double())
    net = _net()
    draw = net.sample(200, generator=_seeded())
    shares = {}
    for defensive in (None, _wide(scale=3.0)):
        found = WeightedNegatives(defensive=defensive).propose(net, draw, _seeded(1))
        shares[defensive is None] = float(self_normalised(-energy(found.x) - found.log_density).effective_sample_size)
    assert shares[True] < 3
    assert shares[False] > 8


def test_a_defensive_density_of_another_dtype_is_refused() -> None:
    net = _net(2)
    with pytest.raises(ContractError, match=r"torch.float32, the rows of torch.float64; convert"):
        WeightedNegatives(defensive=Gaussian([0.0, 0.0])).propose(net, net.sample(8), _seeded())


def test_a_defensive_module_is_handed_over_to_move_and_save() -> None:
    wide = _wide()
    assert list(WeightedNegatives(defensive=wide).held_modules()) == [wide]

    class Plain:
        def log_prob(self, x: Tensor) -> Tensor:
            return x

        def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
            return torch.zeros(n, 1, dtype=torch.float64)

    for defensive in (None, Plain()):
        held = WeightedNegatives(defensive=defensive).held_modules()
        assert isinstance(held, nn.ModuleList) and len(held) == 0
    with pytest.raises(ContractError, match=r"log_prob returned shape \(10, 1\) for 10 rows"):
        WeightedNegatives(defensive=Plain()).propose(_net(), _net().sample(8), _seeded())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"share": 0.0}, "share must be .*got 0.0"),
        ({"share": math.nan}, "share must be .*got nan"),
        ({"covering": -1.0}, "covering must be .*got -1.0"),
        ({"clip": 1.0}, "clip is in units of the mean weight and must be above 1, got 1.0"),
        ({"clip": math.nan}, "clip .*got nan"),
        ({"clip": math.inf}, "clip .*got inf"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        WeightedNegatives(**options)
