"""Every density keeps the protocol of `chainfree.typing.Density`."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, get_args

import pytest
import torch

from chainfree.datasets.toy import TOY_DENSITIES
from chainfree.energies import NICE, Banana, DoubleWell, Funnel, Gaussian, GaussianMixture, Ring
from chainfree.generators.flows import Flow, FlowKind
from chainfree.typing import Density

FLOWS = get_args(FlowKind) if find_spec("zuko") else ()

CASES: dict[str, tuple[Callable[[], Any], int]] = {
    "gaussian": (lambda: Gaussian([0.0, 1.0, 2.0]), 3),
    "mixture": (lambda: GaussianMixture(torch.tensor([[0.0], [3.0]])), 1),
    "banana": (lambda: Banana(4), 4),
    "funnel": (lambda: Funnel(5), 5),
    "ring": (Ring, 2),
    "double-well": (lambda: DoubleWell(3), 3),
    "double-well-1": (lambda: DoubleWell(1), 1),
    "nice": (lambda: NICE(4, width=8), 4),
    "nice-normal": (lambda: NICE(3, width=8, base="normal"), 3),
    **{f"flow-{kind}": (lambda kind=kind: Flow(3, kind=kind, width=8), 3) for kind in FLOWS},
    **{f"toy-{name}": (make, 2) for name, make in TOY_DENSITIES.items()},
}


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> tuple[Any, int]:
    make, dim = CASES[request.param]
    return make(), dim


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_it_is_a_density(case: tuple[Any, int]) -> None:
    assert isinstance(case[0], Density)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [1, 7])
def test_shapes_and_types(case: tuple[Any, int], dtype: torch.dtype, n: int) -> None:
    density, dim = case
    density = density.to(dtype)
    x = density.sample(n, generator=_seeded())
    assert x.shape == (n, dim)
    assert x.dtype == dtype
    assert not x.requires_grad
    values = density.log_prob(x)
    assert values.shape == (n,)
    assert values.dtype == dtype
    assert torch.isfinite(values).all()


def test_rows_are_scored_alone(case: tuple[Any, int]) -> None:
    density, _ = case
    density = density.double()
    x = density.sample(6, generator=_seeded())
    torch.testing.assert_close(torch.cat([density.log_prob(row.unsqueeze(0)) for row in x]), density.log_prob(x))


def test_the_generator_decides_the_draws(case: tuple[Any, int]) -> None:
    density, _ = case
    before = torch.get_rng_state()
    first, second, other = (density.sample(20, generator=_seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert len(torch.unique(first, dim=0)) == 20


def test_a_generator_moves_on(case: tuple[Any, int]) -> None:
    density, _ = case
    generator = _seeded()
    assert not torch.equal(density.sample(20, generator=generator), density.sample(20, generator=generator))


def test_without_a_generator_the_global_one_is_used(case: tuple[Any, int]) -> None:
    density, _ = case
    with torch.random.fork_rng():
        torch.manual_seed(5)
        first = density.sample(20)
        torch.manual_seed(5)
        assert torch.equal(density.sample(20), first)


def test_no_draws_are_an_empty_batch(case: tuple[Any, int]) -> None:
    density, dim = case
    assert density.sample(0).shape == (0, dim)
