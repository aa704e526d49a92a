"""Annealed importance sampling of codes, bits and mixed rows against enumeration and closed forms."""

from __future__ import annotations

import itertools
import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from chainfree.energies import AnalyticEnergy, TabularMixture
from chainfree.evaluation import (
    AnnealingSchedule,
    ais,
    annealing_schedule,
    estimate_log_z,
    log_likelihood,
    log_z_enumeration,
    reverse_ais,
)
from chainfree.samplers import block_gibbs, gibbs, gibbs_with_gradients, hmc, mala, ula, underdamped

SIZES = [3, 2, 4]
TABLE = 2.0 * torch.randn(SIZES, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
COUPLING = 0.4 * torch.randn(10, 10, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
COARSE = torch.tensor([0.0, 0.1, 0.3, 0.6, 1.0], dtype=torch.float64)


def _table(x: Tensor) -> Tensor:
    a, b, c = x.long().unbind(1)
    return -TABLE[a, b, c]


def _bits(x: Tensor) -> Tensor:
    return -((x @ COUPLING) * x).sum(1)


class _Coins(AnalyticEnergy):
    """Independent bits, with a gradient that gibbs_with_gradients can follow."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, log_z=0.0)
        self.register_buffer("logits", torch.linspace(-0.5, 0.5, dim, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return torch.nn.functional.softplus(self.logits).sum() - x @ self.logits

    def sample(self, n: int, /, *, generator: torch.Generator | None = None) -> Tensor:
        return torch.bernoulli(torch.sigmoid(self.logits).expand(n, -1), generator=generator)


def _mixed(seed: int) -> TabularMixture:
    """A number and two columns of codes that depend on each other."""
    source = torch.Generator().manual_seed(seed)
    return (
        TabularMixture([None, 3, 2], components=2)
        .double()
        .set_(
            weights=torch.tensor([0.4, 0.6]),
            means=torch.randn(2, 1, generator=source),
            covariances=0.5 + torch.rand(2, 1, 1, generator=source),
            shown_means=torch.zeros(2, 0),
            shown_scales=torch.ones(2, 0),
            shares=torch.rand(5, 2, generator=source) + 0.1,
        )
    )


class _Case:
    def __init__(self, name: str) -> None:
        if name == "gibbs":
            self.energy: Any = _table
            self.base: Any = TabularMixture(SIZES, components=1).double()
            self.kernel: Any = partial(gibbs.kernel, sites=list(enumerate(SIZES)))
            self.log_z = log_z_enumeration(_table, SIZES, dtype=torch.float64).value
            self.states = torch.tensor(list(itertools.product(*map(range, SIZES))), dtype=torch.float64)
        elif name == "gibbs_with_gradients":
            self.energy, self.base, self.kernel = _bits, _Coins(10), gibbs_with_gradients.kernel
            self.log_z = log_z_enumeration(_bits, [2] * 10, dtype=torch.float64).value
            self.states = torch.tensor(list(itertools.product((0, 1), repeat=10)), dtype=torch.float64)
        else:
            target = _mixed(1)
            self.energy, self.base = (lambda x: target(x) - 1.5), _mixed(2)
            self.kernel = partial(block_gibbs.kernel, sites=[(1, 3), (2, 2)])
            self.log_z, self.draw = 1.5, target.sample

    def rows(self, n: int, generator: torch.Generator) -> Tensor:
        if hasattr(self, "draw"):
            drawn: Tensor = self.draw(n, generator=generator)
            return drawn
        chances = (-self.energy(self.states)).softmax(0)
        return self.states[torch.multinomial(chances, n, replacement=True, generator=generator)]


CASES = ("gibbs", "gibbs_with_gradients", "block_gibbs")


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("way", ["there", "back"])
def test_the_mean_weight_is_unbiased_however_badly_chains_mix(name: str, way: str, generator: torch.Generator) -> None:
    case = _Case(name)
    width = len(case.base.sample(1)[0])
    schedule = AnnealingSchedule(COARSE, torch.full((4,), 0.3), torch.ones(4, width), 1, 1.0, case.kernel)
    ratios = []
    for _ in range(80):
        if way == "there":
            run = ais(case.energy, case.base, schedule=schedule, chains=40, resample_below=0.8, generator=generator)
            ratios.append(math.exp(run.log_z.value - case.log_z))
        else:
            rows = case.rows(40, generator)
            run = reverse_ais(case.energy, case.base, rows, schedule=schedule, settle=1, generator=generator)
            ratios.append(math.exp(case.log_z - run.log_z.value))
    error = float(np.std(ratios, ddof=1)) / math.sqrt(len(ratios))
    assert 0.001 < error < 0.1
    assert abs(float(np.mean(ratios)) - 1) < 4 * error


@pytest.mark.parametrize("name", CASES)
def test_a_pilot_run_finds_a_ladder_on_which_the_estimate_is_sharp(name: str, generator: torch.Generator) -> None:
    case = _Case(name)
    schedule = annealing_schedule(
        case.energy, case.base, kernel=case.kernel, temperatures=60, chains=400, generator=generator
    )
    run = ais(case.energy, case.base, schedule=schedule, chains=400, generator=generator)
    assert run.log_z.standard_error < 0.1
    assert abs(run.log_z.value - case.log_z) < 4 * run.log_z.standard_error + 1e-3
    codes = run.x if name != "block_gibbs" else run.x[:, 1:]
    assert torch.equal(codes, codes.round()) and bool((codes >= 0).all())
    if name == "block_gibbs":  # the one kernel here with a step size to choose
        assert abs(float(run.acceptance[-10:].mean()) - mala.TARGET) < 0.1


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_the_bracket_holds_log_z(name: str, given: bool, generator: torch.Generator) -> None:
    case = _Case(name)
    rows = case.rows(500, generator)
    found = estimate_log_z(
        case.energy,
        proposal=case.base,
        rows=rows if given else None,
        kernel=case.kernel,
        samples=2000,
        chains=500,
        temperatures=60,
        generator=generator,
    )
    assert found.agree and found.upper == ("rows" if given else "chains")
    assert found.low < case.log_z < found.high < found.low + 1.0
    assert "quadrature" not in found.estimates
    likelihood = log_likelihood(case.energy, rows, found)
    assert likelihood.low < float(-case.energy(rows).mean()) - case.log_z < likelihood.high


def test_rows_that_cannot_be_have_no_weight(generator: torch.Generator) -> None:
    def some(x: Tensor) -> Tensor:
        return torch.where(x[:, 0] == 1, torch.inf, _table(x))

    exact = log_z_enumeration(some, SIZES, dtype=torch.float64).value
    base = TabularMixture(SIZES, components=1).double()
    kernel = partial(gibbs.kernel, sites=list(enumerate(SIZES)))
    schedule = annealing_schedule(some, base, kernel=kernel, temperatures=40, generator=generator)
    run = ais(some, base, schedule=schedule, chains=500, generator=generator)
    assert abs(run.log_z.value - exact) < 4 * run.log_z.standard_error + 1e-3


def test_any_kernel_of_numbers_goes_along_too(generator: torch.Generator) -> None:
    target, base = _mixed(1), _mixed(2)
    number = [TabularMixture([None], components=2).double() for _ in range(2)]
    for mine, whole in zip(number, (target, base), strict=True):
        mine.set_(
            weights=whole.log_weights.exp(),
            means=whole.means,
            covariances=whole.factors @ whole.factors.mT,
            shown_means=torch.zeros(2, 0),
            shown_scales=torch.ones(2, 0),
            shares=torch.zeros(0, 2),
        )
    schedule = annealing_schedule(*number, kernel=partial(hmc.kernel, leapfrog=3), temperatures=20, generator=generator)
    run = ais(*number, schedule=schedule, chains=300, generator=generator)
    assert abs(run.log_z.value) < 4 * run.log_z.standard_error + 1e-3


@pytest.mark.parametrize("kernel", [ula.kernel, partial(underdamped.kernel, adjusted=False)])
def test_steps_that_do_not_keep_the_density_are_refused(kernel: Any) -> None:
    with pytest.raises(ValueError, match="do not keep the density, and log Z would be wrong"):
        annealing_schedule(_mixed(1), _mixed(2), kernel=kernel)
    with pytest.raises(ValueError, match="do not keep the density, and log Z would be wrong"):
        estimate_log_z(_mixed(1), proposal=_mixed(2), samples=100, kernel=kernel)


@pytest.mark.parametrize(
    "given", [{"proposal": None}, {"proposal": _Coins(2), "bounds": [(0.0, 1.0), (0.0, 1.0)]}], ids=["none", "bounds"]
)
def test_codes_without_a_proposal_or_with_bounds_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="with a kernel give a proposal"):
        estimate_log_z(_bits, rows=torch.zeros(20, 2), kernel=gibbs_with_gradients.kernel, **given)
