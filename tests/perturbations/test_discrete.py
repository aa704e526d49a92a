"""Discrete perturbations against scipy's matrix exponential and enumeration."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from scipy.linalg import expm

from chainfree.checks import ContractError
from chainfree.losses import EnergyDiscrepancy
from chainfree.perturbations import (
    Absorbing,
    Bernoulli,
    Gaussian,
    LogUniform,
    Mixed,
    OneSite,
    OrderedHeatKernel,
    Perturbation,
    UniformHeatKernel,
)
from chainfree.perturbations.heat_kernel import _cumulated

Matrix = NDArray[np.float64]
ROWS = 40_000


def _complete(size: int) -> Matrix:
    """At rate one a site is drawn anew."""
    return np.full((size, size), 1 / size) - np.eye(size)


def _path(size: int) -> Matrix:
    rates = np.eye(size, k=1) + np.eye(size, k=-1)
    return rates - np.diag(rates.sum(1))


def _circle(size: int) -> Matrix:
    rates = np.eye(size, k=1) + np.eye(size, k=-1)
    rates[0, -1] += 1
    rates[-1, 0] += 1
    return rates - np.diag(rates.sum(1))


def _to_mask(size: int) -> Matrix:
    """One state more, which is never left."""
    rates = np.zeros((size + 1, size + 1))
    rates[:size, :size] = -np.eye(size)
    rates[:size, size] = 1
    return rates


KERNELS: dict[str, tuple[Perturbation, Matrix, int]] = {
    "bernoulli": (Bernoulli(epsilon=0.2), expm(-math.log(1 - 2 * 0.2) * _complete(2)), 2),
    "uniform": (UniformHeatKernel(categories=4, t=0.7), expm(0.7 * _complete(4)), 4),
    "uniform, two": (UniformHeatKernel(categories=2, t=0.3), expm(0.3 * _complete(2)), 2),
    "ordinal": (OrderedHeatKernel(categories=5, order="ordinal", t=0.9), expm(0.9 * _path(5)), 5),
    "ordinal, two": (OrderedHeatKernel(categories=2, order="ordinal", t=0.4), expm(0.4 * _path(2)), 2),
    "cyclic": (OrderedHeatKernel(categories=5, order="cyclic", t=0.9), expm(0.9 * _circle(5)), 5),
    "cyclic, even": (OrderedHeatKernel(categories=6, order="cyclic", t=0.3), expm(0.3 * _circle(6)), 6),
    "absorbing": (Absorbing(categories=3, t=0.6), expm(0.6 * _to_mask(3)), 3),
}


@pytest.fixture(params=KERNELS, ids=str)
def kernel(request: pytest.FixtureRequest) -> tuple[Perturbation, Matrix, int]:
    return KERNELS[request.param]


def _source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _fits(codes: torch.Tensor, probabilities: Matrix) -> None:
    counts = np.bincount(codes.long().flatten().numpy(), minlength=len(probabilities))
    possible = probabilities > 0
    assert counts[~possible].sum() == 0
    expected = probabilities[possible] / probabilities.sum() * counts.sum()
    assert possible.sum() == 1 or stats.chisquare(counts[possible], expected).pvalue > 1e-4


def test_what_is_left_is_the_matrix_exponential(kernel: tuple[Perturbation, Matrix, int]) -> None:
    perturbation, matrix, size = kernel
    for x in range(size):
        y = perturbation.perturb(torch.full((ROWS, 1), float(x)), generator=_source(x)).y
        _fits(y, matrix[x])


def test_draws_are_the_kernel_read_backwards(kernel: tuple[Perturbation, Matrix, int]) -> None:
    """From rows with all values alike, draws given y are in proportion to q(y | x')."""
    perturbation, matrix, size = kernel
    x = torch.arange(size).repeat(ROWS // size).unsqueeze(1).float()
    perturbed = perturbation.perturb(x, generator=_source())
    draws = perturbation.recover(perturbed, 3, generator=_source(1))
    assert int(draws.min()) == 0 and int(draws.max()) == size - 1
    for y in range(matrix.shape[1]):
        given = (perturbed.y == y).squeeze(1)
        _fits(draws[:, given], matrix[:size, y])
        # independent of each other and of the datum given y
        pairs = draws[0, given, 0] * size + draws[1, given, 0]
        law = matrix[:size, y] / matrix[:size, y].sum()
        _fits(pairs, np.outer(law, law).flatten())
        _fits(x[given, 0] * size + draws[0, given, 0], np.outer(law, law).flatten())


@pytest.mark.parametrize("order", ["ordinal", "cyclic"])
@pytest.mark.parametrize("size", [2, 3, 4, 7, 30])
@pytest.mark.parametrize("t", [1e-3, 0.5, 20.0])
def test_the_spectrum_is_that_of_the_graph(order: Any, size: int, t: float) -> None:
    rates = _path(size) if order == "ordinal" else _circle(size)
    exact = expm(t * rates)
    np.testing.assert_allclose(np.diff(_cumulated(size, order, t).numpy(), prepend=0), exact, atol=1e-12)


def test_every_datum_keeps_its_time_in_both_directions() -> None:
    """With times far apart, rows either keep their value in all draws or forget it."""
    far = LogUniform(low=1e-9, high=1e9)
    codes = torch.full((4000, 3), 2.0)
    for perturbation in (
        UniformHeatKernel(categories=5, t=far),
        OrderedHeatKernel(categories=5, order="ordinal", t=far),
        OrderedHeatKernel(categories=5, order="cyclic", t=far),
    ):
        perturbed = perturbation.perturb(codes, generator=_source())
        assert perturbed.scale is not None and perturbed.scale.shape == (4000, 1)
        short, long = (perturbed.scale < 1e-6).squeeze(1), (perturbed.scale > 1e4).squeeze(1)
        draws = perturbation.recover(perturbed, 4, generator=_source(1))
        assert torch.equal(draws[:, short], codes[short].expand(4, -1, -1))
        _fits(draws[:, long], np.ones(5))


def test_times_of_one_datum_are_those_of_the_exponential() -> None:
    for order, rates in (("ordinal", _path(4)), ("cyclic", _circle(4))):
        for t in (0.2, 1.5):
            narrow = LogUniform(low=t, high=t)
            y = (
                OrderedHeatKernel(categories=4, order=order, t=narrow)
                .perturb(torch.ones(ROWS, 2), generator=_source())
                .y
            )  # type: ignore[arg-type]
            _fits(y, expm(t * rates)[1])


def test_sites_have_their_own_numbers_of_values() -> None:
    sizes = (2, 5, 3)
    for perturbation in (UniformHeatKernel(categories=sizes, t=50.0), Absorbing(categories=sizes, t=50.0)):
        perturbed = perturbation.perturb(torch.zeros(ROWS, 3), generator=_source())
        draws = perturbation.recover(perturbed, 1, generator=_source(1))
        for site, size in enumerate(sizes):
            _fits(draws[0, :, site], np.ones(size))
        with pytest.raises(ValueError, match=r"categories has 3 entries but the data have event shape \(2,\)"):
            perturbation.perturb(torch.zeros(4, 2))


@pytest.mark.parametrize("sizes", [(2, 2, 2), (3, 2, 4)])
def test_one_site_goes_to_every_neighbour_alike(sizes: tuple[int, ...]) -> None:
    x = torch.tensor([1.0, 0.0, 1.0])
    perturbation = OneSite(categories=2 if set(sizes) == {2} else sizes)
    perturbed = perturbation.perturb(x.expand(ROWS, 3), generator=_source())
    states = list(itertools.product(*(range(size) for size in sizes)))
    strides = torch.tensor([math.prod(sizes[k + 1 :]) for k in range(3)])

    def neighbours(state: Any) -> Matrix:
        apart = np.array([sum(a != b for a, b in zip(other, state, strict=True)) for other in states])
        return (apart == 1).astype(float)

    _fits((perturbed.y.long() * strides).sum(1), neighbours((1, 0, 1)))
    draws = perturbation.recover(perturbed, 2, generator=_source(1))
    given = (perturbed.y == torch.tensor([0.0, 0.0, 1.0])).all(1)
    _fits((draws[:, given].long() * strides).sum(-1), neighbours((0, 0, 1)))
    with pytest.raises(ValueError, match="categories has 2 entries"):
        OneSite(categories=(2, 3)).perturb(torch.zeros(4, 3))


def test_parts_of_a_row_are_perturbed_by_themselves() -> None:
    kernel, noise = UniformHeatKernel(categories=4, t=0.7), Gaussian(t=(0.04, 4.0))
    mixed = Mixed(parts=[([3, 0], noise), ([1], kernel)], width=5)
    x = torch.tensor([0.5, 2.0, 7.0, -3.0, 9.0]).repeat(ROWS, 1)
    perturbed = mixed.perturb(x, generator=_source())
    draws = mixed.recover(perturbed, 2, generator=_source(1))
    for rows in (perturbed.y, draws[0], draws[1]):
        assert torch.equal(rows[:, [2, 4]], x[:, [2, 4]])  # in no part
    for column, deviation in ((3, 0.2), (0, 2.0)):
        away = (perturbed.y - x)[:, column].numpy() / deviation
        back = (draws[0] - perturbed.y)[:, column].numpy() / deviation
        assert stats.kstest(away, "norm").pvalue > 1e-3 and stats.kstest(back, "norm").pvalue > 1e-3
    _fits(perturbed.y[:, 1], expm(0.7 * _complete(4))[2])
    given = perturbed.y[:, 1] == 0
    _fits(draws[:, given, 1], expm(0.7 * _complete(4))[0])
    assert stats.spearmanr(perturbed.y[:, 0] - x[:, 0], perturbed.y[:, 1]).pvalue > 1e-3


def test_energy_discrepancy_finds_probabilities_of_a_table() -> None:
    """Two sites with 2 and 3 values and a joint law that is no product, learned as a table of energies."""
    law = torch.tensor([[0.05, 0.25, 0.1], [0.3, 0.1, 0.2]], dtype=torch.float64)
    drawn = torch.multinomial(law.flatten(), 60_000, replacement=True, generator=_source())
    x = torch.stack([drawn // 3, drawn % 3], dim=1).double()
    for perturbation in (
        UniformHeatKernel(categories=(2, 3), t=0.7),
        OneSite(categories=(2, 3)),
        Absorbing(categories=(2, 3), t=0.7),
        Mixed(
            parts=[([0], Bernoulli(epsilon=0.3)), ([1], OrderedHeatKernel(categories=3, order="cyclic", t=0.5))],
            width=2,
        ),
    ):
        table = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
        loss = EnergyDiscrepancy(perturbation=perturbation, draws=8)
        optimizer = torch.optim.Adam([table], lr=0.05)
        source = _source(1)
        for step in range(300):
            optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / 300)
            rows = x[torch.randint(len(x), (2000,), generator=source)]
            optimizer.zero_grad()
            loss(lambda r, table=table: table[r[:, 0].long(), r[:, 1].long()], rows, generator=source).loss.backward()
            optimizer.step()
        found = torch.softmax(-table.detach().flatten(), 0).view(2, 3)
        assert float((found - law).abs().max()) < 0.015, perturbation


@pytest.mark.parametrize(
    "perturbation",
    [
        Bernoulli(),
        UniformHeatKernel(categories=(2, 2)),
        OrderedHeatKernel(categories=2, order="cyclic"),
        Absorbing(categories=2),
        OneSite(),
        Mixed(parts=[([0, 1], UniformHeatKernel(categories=2))], width=2),
    ],
)
@pytest.mark.parametrize("code", [2.0, -1.0, 0.5, float("nan")])
def test_codes_of_no_category_are_refused(perturbation: Perturbation, code: float) -> None:
    """They would train, and better than real ones: what the kernel never draws is easily told from what it draws."""
    rows = torch.ones(4, 2)
    perturbation.perturb(rows)
    rows[2, 1] = code
    with pytest.raises(ContractError, match=r"whole numbers from 0 to 1, got .* at \(1,\) of row 2"):
        perturbation.perturb(rows)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Bernoulli(epsilon=0.0), "above 0 and at most 0.5"),
        (lambda: Bernoulli(epsilon=0.6), "above 0 and at most 0.5"),
        (lambda: UniformHeatKernel(categories=1), "at least 2"),
        (lambda: UniformHeatKernel(categories=()), "empty"),
        (lambda: UniformHeatKernel(categories=(2, 1)), "at least 2"),
        (lambda: UniformHeatKernel(categories=3, t=0.0), "t must"),
        (lambda: OrderedHeatKernel(categories=3, order="linear"), "order must be"),  # type: ignore[arg-type]
        (lambda: OrderedHeatKernel(categories=1, order="ordinal"), "at least 2"),
        (lambda: OrderedHeatKernel(categories=3, order="cyclic", t=math.inf), "t must"),
        (lambda: OneSite(categories=1), "at least 2"),
        (lambda: Absorbing(categories=3, t=-1.0), "t must"),
        (lambda: Mixed(parts=[], width=3), "empty part"),
        (lambda: Mixed(parts=[([], Gaussian())], width=3), "empty part"),
        (lambda: Mixed(parts=[([0, 1], Gaussian()), ([1], Gaussian())], width=3), "may be in one part"),
        (lambda: Mixed(parts=[([3], Gaussian())], width=3), "may be in one part"),
        (lambda: Mixed(parts=[([0, 1], UniformHeatKernel(categories=(2, 3, 4)))], width=3), "3 entries"),
        (lambda: Mixed(parts=[([0], Gaussian())], width=1).perturb(torch.zeros(2, 3)), r"rows must be \(B, 1\)"),
    ],
)
def test_settings_are_checked(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()
