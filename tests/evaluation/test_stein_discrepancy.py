"""The kernel Stein discrepancy against derivatives by autograd, its closed form, and its test's level."""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from chainfree.checks import ContractError
from chainfree.energies import Banana, Gaussian, GaussianMixture
from chainfree.evaluation import stein_discrepancy
from chainfree.evaluation.stein_discrepancy import _signs


def normals(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


COVARIANCE = torch.tensor([[2.0, 0.6], [0.6, 1.0]], dtype=torch.float64)
MEAN = torch.tensor([0.5, -1.0], dtype=torch.float64)


def by_loops(x: Tensor, kernel: str, c: float, exponent: float) -> Tensor:
    """The Stein kernel of a normal, whose score is written out, with the kernel's derivatives by autograd."""
    scores = -(x - MEAN) @ torch.linalg.inv(COVARIANCE)

    def k(pair: Tensor) -> Tensor:
        squared = (pair[0] - pair[1]).square().sum()
        return torch.exp(-squared / (2 * c * c)) if kernel == "rbf" else (c * c + squared) ** exponent

    table = torch.empty(len(x), len(x), dtype=torch.float64)
    for i, a in enumerate(x):
        for j, b in enumerate(x):
            pair = torch.stack([a, b])
            slope = torch.autograd.functional.jacobian(k, pair)
            mixed = torch.autograd.functional.hessian(k, pair)[0, :, 1, :]
            table[i, j] = scores[i] @ scores[j] * k(pair) + scores[i] @ slope[1] + scores[j] @ slope[0] + mixed.trace()
    return table


@pytest.mark.parametrize(("kernel", "c", "exponent"), [("imq", 1.4, -0.5), ("imq", 0.6, -0.3), ("rbf", 1.1, -0.5)])
def test_it_is_the_sum_over_pairs_of_the_stein_kernel(kernel: Any, c: float, exponent: float) -> None:
    x = normals(8, 2, seed=0)
    found = stein_discrepancy(Gaussian(MEAN, COVARIANCE), x, kernel=kernel, bandwidth=c, exponent=exponent)
    table = by_loops(x, kernel, c, exponent)
    assert found.v_statistic == pytest.approx(float(table.mean()), rel=1e-10)
    assert found.u_statistic == pytest.approx(float((table.sum() - table.trace()) / 56), rel=1e-10)
    assert found.p_value is None


def test_of_a_shifted_normal_it_is_the_closed_form() -> None:
    # the scores differ by the shift m everywhere, so the discrepancy is |m|^2 E k(x, x') with x - x' ~ N(0, 2 I)
    h, shift = 1.2, torch.tensor([0.6, -0.3, 0.0], dtype=torch.float64)
    truth = float(shift.square().sum()) * (h * h / (h * h + 2)) ** 1.5
    energy = Gaussian(torch.zeros(3, dtype=torch.float64))
    repeats = [
        stein_discrepancy(energy, normals(300, 3, seed=s) + shift, kernel="rbf", bandwidth=h).u_statistic
        for s in range(30)
    ]
    error = float(np.std(repeats, ddof=1)) / math.sqrt(len(repeats))
    assert error < 0.1 * truth
    assert abs(float(np.mean(repeats)) - truth) < 4 * error


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
def test_exact_draws_are_at_zero_on_average(kernel: Any) -> None:
    energy, generator = Banana(2).double(), torch.Generator().manual_seed(0)
    found = [
        stein_discrepancy(energy, energy.sample(100, generator=generator), kernel=kernel, bandwidth=1.0)
        for _ in range(100)
    ]
    u = np.array([f.u_statistic for f in found])
    assert abs(u.mean()) < 4 * u.std(ddof=1) / 10
    assert min(f.v_statistic for f in found) > 0


def test_p_values_of_exact_draws_are_uniform() -> None:
    energy = Gaussian(torch.zeros(2, dtype=torch.float64))
    p = [stein_discrepancy(energy, normals(100, 2, seed=s), bootstrap=199, seed=s).p_value for s in range(200)]
    assert stats.kstest(p, "uniform").pvalue > 1e-3
    assert 0.01 < np.mean(np.array(p) <= 0.05) < 0.11


def test_wrong_draws_are_found_out() -> None:
    energy = GaussianMixture(torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=torch.float64), 0.5)
    for wrong in (normals(200, 2, seed=0) + torch.tensor([0.8, 0.0]), 0.6 * normals(200, 2, seed=0)):
        assert stein_discrepancy(energy, wrong, bootstrap=199, seed=0).p_value == pytest.approx(1 / 200)


def test_signs_are_fair_and_change_as_often_as_asked() -> None:
    for flip in (0.5, 0.1):
        signs = _signs(2000, 50, flip, seed=0)
        assert set(signs.unique().tolist()) == {-1.0, 1.0}
        assert float((signs[1:] != signs[:-1]).double().mean()) == pytest.approx(flip, abs=0.01)
    assert float((_signs(1, 4000, 0.1, seed=0) > 0).double().mean()) == pytest.approx(0.5, abs=0.04)


def test_a_chains_rows_need_fewer_flips() -> None:
    # an autoregressive chain keeps N(0, 1) and has an autocorrelation time of about 19 steps
    energy, rho, levels = Gaussian(torch.zeros(1, dtype=torch.float64)), 0.9, {0.5: [], 0.02: []}
    for seed in range(40):
        noise, x = normals(300, 1, seed=seed), [normals(1, 1, seed=1000 + seed)[0]]
        for row in noise:
            x.append(rho * x[-1] + math.sqrt(1 - rho * rho) * row)
        for flip, p in levels.items():
            found = stein_discrepancy(energy, torch.stack(x), bandwidth=1.0, bootstrap=199, flip=flip, seed=seed)
            p.append(found.p_value)
    assert np.mean(np.array(levels[0.5]) <= 0.05) > 0.6
    assert np.mean(np.array(levels[0.02]) <= 0.05) < 0.3


def test_portions_seed_and_the_callers_state(monkeypatch: pytest.MonkeyPatch) -> None:
    energy = Gaussian(MEAN, COVARIANCE)
    x = energy.sample(40, generator=torch.Generator().manual_seed(0))
    before, state = x.clone(), torch.get_rng_state()
    whole = stein_discrepancy(energy, x, bootstrap=50, seed=1)
    module = importlib.import_module("chainfree.evaluation.stein_discrepancy")
    monkeypatch.setattr(module, "_PAIRS_AT_A_TIME", 7 * 40)
    monkeypatch.setattr(module, "_ROWS_AT_A_TIME", 16)
    parts = stein_discrepancy(energy, x, bootstrap=50, seed=1)
    assert parts == pytest.approx(whole, rel=1e-12)
    assert stein_discrepancy(energy, x, bootstrap=50, seed=2).p_value != whole.p_value
    assert torch.equal(x, before)
    assert not x.requires_grad
    assert torch.equal(torch.get_rng_state(), state)


def test_images_are_flattened_and_parameters_get_no_gradient() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 1), nn.Flatten(0)).double()
    found = stein_discrepancy(net, normals(6, 1, 2, 2, seed=0))
    assert math.isfinite(found.u_statistic)
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize(
    ("x", "options", "words"),
    [
        (torch.zeros(1, 2), {}, "x must have at least 2 rows"),
        (torch.zeros(3, 2), {}, "median distance of the rows is 0"),
        (torch.full((3, 2), math.inf), {}, "x has NaN"),
        (torch.eye(2), {"kernel": "linear"}, "kernel must be one of imq, rbf, got 'linear'"),
        (torch.eye(2), {"exponent": -1.0}, "exponent must be between -1 and 0"),
        (torch.eye(2), {"exponent": 0.0}, "exponent must be between -1 and 0"),
        (torch.eye(2), {"bandwidth": 0.0}, "bandwidth must be"),
        (torch.eye(2), {"bootstrap": -1}, "bootstrap must be"),
        (torch.eye(2), {"bootstrap": 10}, "give its seed"),
        (torch.eye(2), {"bootstrap": 10, "seed": 0, "flip": 0.6}, "flip must be"),
    ],
)
def test_it_refuses(x: Tensor, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        stein_discrepancy(lambda rows: rows.square().sum(1), x, **options)


def test_scores_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="score has NaN"):
        stein_discrepancy(lambda rows: rows.square().sum(1).sqrt(), torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
    with pytest.raises(ContractError):
        stein_discrepancy(lambda rows: rows, torch.eye(2))
