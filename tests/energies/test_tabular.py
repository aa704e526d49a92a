"""The perceptron over numbers and categories, by what it must see and must not."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import chainfree as cf
from chainfree.checks import ContractError
from chainfree.energies import JointEnergy, TabularMLP

COLUMNS = (3, None, 2, None, 4)


@pytest.fixture
def rows() -> Tensor:
    source = torch.Generator().manual_seed(0)
    x = torch.randn(50, 5, generator=source)
    for place, size in enumerate(COLUMNS):
        if size is not None:
            x[:, place] = torch.randint(size, (50,), generator=source).float()
    return x


@pytest.fixture
def energy() -> TabularMLP:
    torch.manual_seed(0)
    return TabularMLP(COLUMNS, width=16, depth=2)


def test_every_code_has_a_vector_of_its_own(energy: TabularMLP, rows: Tensor) -> None:
    assert energy.vectors is not None and energy.vectors.num_embeddings == 9
    for place, size in enumerate(COLUMNS):
        if size is None:
            continue
        others = rows.clone()
        others[:, place] = (others[:, place] + 1) % size
        assert bool((energy(others) != energy(rows)).all())
    with torch.no_grad():
        energy.vectors.weight[3 + 1] = energy.vectors.weight[3]  # the two codes of column 2 alike
    others = rows.clone()
    others[:, 2] = 1 - others[:, 2]
    torch.testing.assert_close(energy(others), energy(rows))


def test_gradients_reach_numbers_and_vectors_and_no_code(energy: TabularMLP, rows: Tensor) -> None:
    x = rows.clone().requires_grad_()
    energy(x).sum().backward()
    assert x.grad is not None
    assert bool((x.grad[:, [1, 3]] != 0).any(0).all()) and bool((x.grad[:, [0, 2, 4]] == 0).all())
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in energy.parameters())


def test_numbers_alone_or_codes_alone() -> None:
    numbers = TabularMLP([None, None])
    assert numbers.vectors is None and numbers(torch.randn(3, 2)).shape == (3,)
    codes = TabularMLP([2, 3], outputs=4)
    assert codes(torch.tensor([[1.0, 2.0]])).shape == (1, 4)
    assert JointEnergy(codes, classes=4)(torch.tensor([[1.0, 2.0]]).double().float()).shape == (1,)


@pytest.mark.parametrize("outputs", [None, 3])
def test_a_missing_number_is_not_seen_and_has_the_density_of_a_standard_normal(outputs: int | None) -> None:
    torch.manual_seed(0)
    network = TabularMLP([None, 2, None], states={0: 1}, width=16, depth=2, outputs=outputs).double()
    energy = network if outputs is None else JointEnergy(network, classes=3)
    places = torch.linspace(-9, 9, 4001, dtype=torch.float64)

    def rows(state: float) -> Tensor:
        return torch.stack([places, torch.full_like(places, state), torch.full_like(places, 0.3)], dim=1)

    with torch.no_grad():
        values = energy(rows(1.0))
        level = values[2000] - 0.5 * math.log(2 * math.pi)  # at v = 0
        torch.testing.assert_close(-values, torch.distributions.Normal(0.0, 1.0).log_prob(places) - level)
        assert float(torch.trapezoid(torch.exp(-(values - level)), places)) == pytest.approx(1)
        assert float(energy(rows(0.0)).std()) > 0.01
    x = rows(1.0)[:5].requires_grad_()
    energy(x).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad[:, 0], places[:5])


@pytest.mark.parametrize(("place", "code"), [(0, 3.0), (0, -1.0), (2, 2.0), (4, 4.0)])
def test_a_code_of_no_category_is_told(energy: TabularMLP, rows: Tensor, place: int, code: float) -> None:
    rows[7, place] = code
    with pytest.raises(ContractError, match=rf"column {place} has codes from 0 to .*, got {int(code)} in row 7"):
        energy(rows)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"columns": []}, "columns is empty"),
        ({"columns": [0]}, "number of values"),
        ({"columns": [None], "embedding": 0}, "embedding"),
        ({"columns": [None], "width": 0}, "width"),
        ({"columns": [None, 1], "states": {0: 1}}, "states are of numbers, by columns of at least two codes, got 0: 1"),
        ({"columns": [2, 2], "states": {0: 1}}, "states are of numbers"),
        ({"columns": [None, 2], "states": {0: 5}}, "states are of numbers"),
        ({"columns": [None], "activation": "step"}, "activation"),
    ],
)
def test_settings_are_checked(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TabularMLP(**arguments)


def test_a_mixed_density_is_learned_by_energy_discrepancy() -> None:
    """A category, a number whose mean depends on it: energies against the truth on a grid."""
    source = torch.Generator().manual_seed(0)
    code = torch.multinomial(torch.tensor([0.2, 0.5, 0.3]), 8000, replacement=True, generator=source)
    means = torch.tensor([-1.0, 0.5, 1.5])
    number = means[code] + 0.5 * torch.randn(8000, generator=source)
    x = torch.stack([code.float(), number], dim=1)
    torch.manual_seed(0)
    energy = TabularMLP([3, None], width=64, depth=2)
    kernel = cf.perturbations.Mixed(
        parts=[
            ([0], cf.perturbations.UniformHeatKernel(categories=3, t=1.0)),
            ([1], cf.perturbations.Gaussian(t=0.5)),
        ],
        width=2,
    )
    engine = cf.Engine(energy, cf.losses.EnergyDiscrepancy(perturbation=kernel, draws=8), seed=0)
    engine.fit(cf.batches(x, size=256), steps=800)
    places = torch.linspace(-3, 3.5, 261)
    grid = torch.cartesian_prod(torch.arange(3.0), places)
    with torch.no_grad():
        found = torch.softmax(-engine.averaged_energy()(grid), 0).view(3, 261)
    truth = torch.tensor([0.2, 0.5, 0.3]).unsqueeze(1) * torch.exp(-2 * (places - means.unsqueeze(1)).square())
    truth /= truth.sum()
    assert float((found - truth).abs().sum()) < 0.1  # twice the total variation
    torch.testing.assert_close(found.sum(1), torch.tensor([0.2, 0.5, 0.3]), atol=0.03, rtol=0)


def test_few_values_and_many_are_one_layer_over_all_vectors() -> None:
    torch.manual_seed(0)
    columns = (2, None, 9, 4, 3, None, 2, 1)  # vectors of four entries: 9 is many, the others few, and 1 is none
    energy = TabularMLP(columns, embedding=4, width=16, depth=2).double()
    x = torch.stack([torch.randn(40) if s is None else torch.randint(s, (40,)).float() for s in columns], 1).double()

    def by_vectors() -> Tensor:
        assert energy.vectors is not None
        codes = x[:, energy.codes].long()
        return energy.perceptron(
            torch.cat([x[:, energy.numbers], energy.vectors(codes + energy.offsets).flatten(1)], 1)
        )

    torch.testing.assert_close(energy(x), by_vectors(), rtol=1e-12, atol=1e-12)
    weight = torch.randn(40, dtype=torch.float64)
    parameters = list(energy.parameters())
    found = torch.autograd.grad((energy(x) * weight).sum(), parameters)
    expected = torch.autograd.grad((by_vectors() * weight).sum(), parameters)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-11)
