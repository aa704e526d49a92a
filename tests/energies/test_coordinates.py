"""Coordinates: a bijection, its volume, and what it does to heavy tails."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from torch import Tensor

from chainfree.energies import Coordinates, Gaussian, InCoordinates


def _data(seed: int = 0, n: int = 4000) -> Tensor:
    """Normal, Cauchy, log-normal, uniform, t with 5 degrees of freedom: light and heavy, off-centre, in unlike units."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(
        np.stack(
            [
                rng.normal(5, 0.01, n),
                1e4 + 30 * rng.standard_cauchy(n),
                rng.lognormal(0, 1.5, n),
                rng.uniform(-3, 9, n),
                2 * rng.standard_t(2.5, n),
            ],
            axis=1,
        )
    )


HEAVY = [False, True, True, False, True]


def test_coordinates_have_mean_zero_and_variance_one_and_find_heavy_tails() -> None:
    x = _data()
    coordinates = Coordinates.fit(x)
    u = coordinates(x)
    torch.testing.assert_close(u.mean(0), torch.zeros(5).double(), rtol=0, atol=1e-9)
    torch.testing.assert_close(u.std(0, correction=0), torch.ones(5).double(), rtol=0, atol=1e-9)
    assert coordinates.heavy.tolist() == HEAVY
    assert coordinates.heavy.tolist() == (stats.kurtosis(x.numpy(), fisher=False) > 6).tolist()
    # the squeezed features are spread out again
    raw = stats.kurtosis(x.numpy(), fisher=False)
    bent = stats.kurtosis(u.numpy(), fisher=False)
    assert (bent[HEAVY] < raw[HEAVY] / 2).all()


def test_the_formula_of_a_bent_feature() -> None:
    x = _data()[:, 1:2]
    centre, knee = np.sort(x[:, 0].numpy())[(len(x) - 1) // 2], None
    knee = np.sort(np.abs(x[:, 0].numpy() - centre))[(len(x) - 1) // 2]
    bent = np.arcsinh((x[:, 0].numpy() - centre) / knee)
    np.testing.assert_allclose(Coordinates.fit(x)(x)[:, 0], (bent - bent.mean()) / bent.std(), atol=1e-9)


def test_without_heavy_tails_it_is_the_standard_score() -> None:
    x = _data()
    coordinates = Coordinates.fit(x, heavy_tails=False)
    assert not bool(coordinates.heavy.any())
    np.testing.assert_allclose(coordinates(x), stats.zscore(x.numpy()), atol=1e-7)


def test_unfitted_it_is_the_identity() -> None:
    x = torch.randn(4, 3)
    coordinates = Coordinates(3)
    assert torch.equal(coordinates(x), x)
    assert torch.equal(coordinates.inverse(x), x)
    assert not bool(coordinates.log_abs_det(x).any())


FITTED = Coordinates.fit(_data())


@settings(max_examples=150, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=5, max_size=5))
def test_the_inverse_undoes_the_map(values: list[float]) -> None:
    x = torch.tensor([values], dtype=torch.float64)
    back = FITTED.inverse(FITTED(x))
    # relative to the offset that the map subtracts: digits below its rounding are lost
    size = x.abs() + 1e4
    assert bool(((back - x).abs() <= 1e-11 * size).all())


@settings(max_examples=150, deadline=None)
@given(st.lists(st.floats(-8, 8), min_size=5, max_size=5))
def test_the_map_undoes_the_inverse(values: list[float]) -> None:
    u = torch.tensor([values], dtype=torch.float64)
    torch.testing.assert_close(FITTED(FITTED.inverse(u)), u, rtol=1e-7, atol=1e-7)


@settings(max_examples=50, deadline=None)
@given(st.floats(-1e5, 1e5), st.floats(1e-3, 1e5))
def test_the_map_keeps_the_order(start: float, step: float) -> None:
    pair = torch.tensor([[start], [start + step]], dtype=torch.float64).expand(2, 5)
    u = FITTED(pair)
    assert bool((u[1] > u[0]).all())


def test_the_volume_is_the_jacobian_s() -> None:
    x = _data(seed=1, n=40)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda row: FITTED(row.unsqueeze(0))[0]))(x)
    expected = torch.linalg.slogdet(jacobian).logabsdet
    torch.testing.assert_close(FITTED.log_abs_det(x), expected, rtol=1e-9, atol=1e-9)


def test_the_energy_in_coordinates_keeps_its_partition_function() -> None:
    rng = np.random.default_rng(3)
    x = torch.from_numpy(rng.standard_t(1.5, (3000, 1)) * 2 + 1)
    coordinates = Coordinates.fit(x)
    assert bool(coordinates.heavy.all())
    base = Gaussian(torch.tensor([0.3], dtype=torch.float64), torch.tensor([[0.8]], dtype=torch.float64))
    energy = InCoordinates(base, coordinates)

    def density(v: float) -> float:
        return math.exp(-float(energy(torch.tensor([[v]], dtype=torch.float64))))

    ends = coordinates.inverse(torch.tensor([[-6.0], [6.0]], dtype=torch.float64)).flatten().tolist()
    knots = coordinates.inverse(torch.linspace(-5, 5, 11, dtype=torch.float64).unsqueeze(1)).flatten().tolist()
    mass, _ = integrate.quad(density, *ends, points=knots, limit=200)
    assert math.log(mass) == pytest.approx(base.log_z, abs=1e-6)


def test_an_affine_map_of_a_normal_is_a_normal() -> None:
    rng = np.random.default_rng(4)
    x = torch.from_numpy(rng.normal([3.0, -50.0], [0.1, 20.0], (500, 2)))
    coordinates = Coordinates.fit(x)
    base = Gaussian(torch.zeros(2, dtype=torch.float64))
    law = stats.norm(x.numpy().mean(0), x.numpy().std(0))
    energy = InCoordinates(base, coordinates)
    np.testing.assert_allclose(-energy(x) - base.log_z, law.logpdf(x.numpy()).sum(1), atol=1e-6)


def test_in_coordinates_takes_a_plain_function_and_trains_only_the_energy() -> None:
    coordinates = Coordinates.fit(_data())
    x = _data(seed=2, n=6)
    torch.testing.assert_close(
        InCoordinates(lambda u: u[:, 0], coordinates)(x), coordinates(x)[:, 0] - coordinates.log_abs_det(x)
    )
    assert not list(coordinates.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_dtype_of_the_rows_is_kept(dtype: torch.dtype) -> None:
    x = _data().to(dtype)
    coordinates = Coordinates.fit(x)
    assert coordinates(x).dtype == dtype
    assert coordinates.inverse(coordinates(x)).dtype == dtype
    assert coordinates.log_abs_det(x).dtype == dtype


def test_the_state_restores_the_map() -> None:
    other = Coordinates(5)
    other.load_state_dict(FITTED.state_dict())
    x = _data(seed=5, n=10)
    assert torch.equal(other(x), FITTED(x))


@pytest.mark.parametrize("level", [0.0, 0.1, -1e6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_constant_feature_is_refused(level: float, dtype: torch.dtype) -> None:
    x = torch.randn(50, 3, dtype=dtype)
    x[:, 1] = level
    with pytest.raises(ValueError, match=r"constant.* 1\b"):
        Coordinates.fit(x)


def test_a_small_variance_on_a_large_offset_is_no_constant() -> None:
    x = 1e6 + 1e-3 * torch.randn(500, 1, dtype=torch.float64)
    u = Coordinates.fit(x)(x)
    assert float(u.std()) == pytest.approx(1.0, rel=1e-2)


def test_a_feature_that_is_mostly_one_value_is_not_bent() -> None:
    x = torch.zeros(1000, 1, dtype=torch.float64)
    x[:20, 0] = torch.linspace(1, 50, 20, dtype=torch.float64)
    coordinates = Coordinates.fit(x)
    assert not bool(coordinates.heavy.any())
    assert torch.isfinite(coordinates(x)).all()
