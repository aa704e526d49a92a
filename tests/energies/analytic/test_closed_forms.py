"""Log-densities, partition functions and gradients of the analytic energies, against scipy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import integrate, stats
from scipy.special import logsumexp
from torch import Tensor

from chainfree.energies import (
    AnalyticEnergy,
    Banana,
    DoubleWell,
    Funnel,
    Gaussian,
    GaussianMixture,
    Ring,
)

COVARIANCE = torch.tensor([[2.0, 0.6], [0.6, 0.5]], dtype=torch.float64)
COVARIANCES = torch.stack([COVARIANCE, torch.diag(torch.tensor([0.1, 3.0], dtype=torch.float64))])
MEANS = torch.tensor([[-1.0, 2.0], [3.0, 0.5]], dtype=torch.float64)

Oracle = Callable[[NDArray[Any]], NDArray[Any]]


def _mixture_logpdf(means: Tensor, covariances: Tensor, weights: list[float]) -> Oracle:
    laws = [stats.multivariate_normal(m, c) for m, c in zip(means.numpy(), covariances.numpy(), strict=True)]
    return lambda x: logsumexp([law.logpdf(x) for law in laws], axis=0, b=np.array(weights)[:, None])


def _banana_logpdf(x: NDArray[Any], scale: float = 1.5, curvature: float = 0.5, width: float = 0.5) -> NDArray[Any]:
    along = stats.norm(0, scale).logpdf(x[:, 0])
    across = stats.norm(curvature * (x[:, 0] ** 2 - scale**2), width).logpdf(x[:, 1])
    return along + across + stats.norm().logpdf(x[:, 2:]).sum(1)


def _funnel_logpdf(x: NDArray[Any], scale: float = 3.0) -> NDArray[Any]:
    return stats.norm(0, scale).logpdf(x[:, 0]) + stats.norm(0, np.exp(x[:, :1] / 2)).logpdf(x[:, 1:]).sum(1)


def _ring_logpdf(radii: tuple[float, ...], noise: float) -> Oracle:
    """By averaging the kernel over the angle; the midpoint rule is exact to rounding for a periodic function."""
    angle = 2 * np.pi * (np.arange(4000) + 0.5) / 4000
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)

    def logpdf(x: NDArray[Any]) -> NDArray[Any]:
        terms = []
        for radius in radii:
            squares = ((x[:, None] - radius * circle) ** 2).sum(-1)
            terms.append(logsumexp(-squares / (2 * noise**2), axis=1) - math.log(4000))
        return logsumexp(terms, axis=0) - math.log(2 * np.pi * noise**2 * len(radii))

    return logpdf


CASES: dict[str, tuple[Callable[[], AnalyticEnergy], Oracle, int]] = {
    "gaussian": (
        lambda: Gaussian(MEANS[0], COVARIANCE),
        stats.multivariate_normal(MEANS[0].numpy(), COVARIANCE.numpy()).logpdf,
        2,
    ),
    "gaussian-default": (lambda: Gaussian([1.0, 0.0, -2.0]), stats.multivariate_normal([1.0, 0.0, -2.0]).logpdf, 3),
    "mixture": (
        lambda: GaussianMixture(MEANS, COVARIANCES, weights=[1.0, 3.0]),
        _mixture_logpdf(MEANS, COVARIANCES, [0.25, 0.75]),
        2,
    ),
    "mixture-isotropic": (
        lambda: GaussianMixture(MEANS, 0.3),
        _mixture_logpdf(MEANS, 0.3 * torch.eye(2).double().expand(2, 2, 2), [0.5, 0.5]),
        2,
    ),
    "banana": (Banana, _banana_logpdf, 2),
    "banana-4": (
        lambda: Banana(4, scale=0.8, curvature=-1.2, width=0.3),
        lambda x: _banana_logpdf(x, 0.8, -1.2, 0.3),
        4,
    ),
    "funnel": (Funnel, _funnel_logpdf, 2),
    "funnel-5": (lambda: Funnel(5, scale=1.5), lambda x: _funnel_logpdf(x, 1.5), 5),
    "ring": (Ring, _ring_logpdf((2.0,), 0.2), 2),
    "rings": (lambda: Ring((0.5, 1.5, 4.0), noise=0.3), _ring_logpdf((0.5, 1.5, 4.0), 0.3), 2),
}


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> tuple[AnalyticEnergy, Oracle, int]:
    make, oracle, dim = CASES[request.param]
    return make().double(), oracle, dim


def test_log_prob_equals_scipy(case: tuple[AnalyticEnergy, Oracle, int], generator: torch.Generator) -> None:
    energy, oracle, dim = case
    x = 2 * torch.randn(200, dim, generator=generator, dtype=torch.float64)
    # parameters that went through float32 (0.2, say) are good to seven digits
    np.testing.assert_allclose(energy.log_prob(x), oracle(x.numpy()), rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(-energy(x) - energy.log_z, oracle(x.numpy()), rtol=2e-6, atol=2e-6)


def test_gradients_are_those_of_finite_differences_of_the_oracle(
    case: tuple[AnalyticEnergy, Oracle, int], generator: torch.Generator
) -> None:
    energy, oracle, dim = case
    x = torch.randn(50, dim, generator=generator, dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(energy(x).sum(), x)
    h = 1e-5
    rows = x.detach().numpy()
    for k in range(dim):
        step = h * np.eye(dim)[k]
        numeric = -(oracle(rows + step) - oracle(rows - step)) / (2 * h)
        np.testing.assert_allclose(gradient[:, k], numeric, rtol=1e-5, atol=1e-5)


EVERYTHING: dict[str, Callable[[], AnalyticEnergy]] = {
    **{name: make for name, (make, _, _) in CASES.items()},
    "double-well": DoubleWell,
    "double-well-1": lambda: DoubleWell(1, barrier=0.5),
}


@pytest.mark.parametrize("name", EVERYTHING)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_energies_and_gradients_are_finite_at_the_origin_and_far_out(name: str, dtype: torch.dtype) -> None:
    energy = EVERYTHING[name]().to(dtype)
    points = torch.zeros(4, energy.dim, dtype=dtype)
    points[1, 0] = 1e-8
    points[2] = 30.0
    points[3] = -30.0
    points.requires_grad_()
    values = energy(points)
    (gradient,) = torch.autograd.grad(values.sum(), points)
    assert values.dtype == dtype
    assert torch.isfinite(values).all()
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", EVERYTHING)
def test_double_moves_energies_and_draws(name: str) -> None:
    single, double = EVERYTHING[name]().float(), EVERYTHING[name]().double()
    x = single.sample(20, generator=torch.Generator().manual_seed(0))
    assert x.dtype == torch.float32
    y = double.sample(20, generator=torch.Generator().manual_seed(0))
    assert y.dtype == torch.float64
    assert double(y).dtype == torch.float64
    torch.testing.assert_close(double.log_prob(x.double()), single.log_prob(x).double(), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("barrier", [0.1, 1.0, 4.0, 30.0, 400.0])
def test_the_double_well_is_normalised_and_is_its_formula(barrier: float) -> None:
    first, _ = integrate.quad(lambda u: math.exp(-barrier * (u * u - 1) ** 2), 0, 6, points=[0.9, 1.0, 1.1])
    for dim in (1, 2, 3):
        energy = DoubleWell(dim, barrier=barrier).double()
        expected = math.log(2 * first) + (dim - 1) * 0.5 * math.log(2 * math.pi)
        assert energy.log_z == pytest.approx(expected, abs=1e-9)
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-1.0, 2.0], [2.0, -1.0]], dtype=torch.float64)
    expected_energies = torch.tensor([1.0, 0.0, 0.0, 9.0]) * barrier + torch.tensor([0.0, 0.0, 2.0, 0.5])
    torch.testing.assert_close(
        DoubleWell(barrier=barrier).double()(x), expected_energies.double(), rtol=1e-6, atol=1e-7
    )


@pytest.mark.parametrize(
    ("energy", "ranges"),
    [
        (Gaussian(MEANS[0], COVARIANCE), [(-9, 7), (-2, 6)]),
        (GaussianMixture(MEANS, COVARIANCES, weights=[1.0, 3.0]), [(-9, 9), (-12, 13)]),
        (Banana(scale=0.8, width=0.4).double(), [(-6, 6), (-3, 20)]),
        (Ring((0.5, 1.5), noise=0.3).double(), [(-4, 4), (-4, 4)]),
        (DoubleWell(barrier=3.0).double(), [(-3, 3), (-8, 8)]),
        # the funnel's mouth is e^{x1 / 2} wide
        (Funnel(scale=0.7).double(), [(-5, 5), (-90, 90)]),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, torch.nn.Module) else "",
)
def test_densities_integrate_to_one(energy: AnalyticEnergy, ranges: list[tuple[float, float]]) -> None:
    """Simpson's rule on a grid; scipy's adaptive rule along the axes agrees where it is quick enough."""
    axes = [np.linspace(low, high, 1201) for low, high in ranges]
    grid = torch.cartesian_prod(*[torch.from_numpy(a) for a in axes])
    density = energy.log_prob(grid).exp().view(1201, 1201).numpy()
    mass = integrate.simpson(integrate.simpson(density, x=axes[1], axis=1), x=axes[0])
    assert mass == pytest.approx(1.0, abs=2e-5)
    # the energy's own units, by log_z
    raw = torch.exp(-energy(grid)).view(1201, 1201).numpy()
    total = integrate.simpson(integrate.simpson(raw, x=axes[1], axis=1), x=axes[0])
    assert math.log(total) == pytest.approx(energy.log_z, abs=2e-5)


def test_log_z_travels_with_the_state() -> None:
    other = Gaussian(torch.zeros(2, dtype=torch.float64))
    fitted = Gaussian(MEANS[0], COVARIANCE)
    other.load_state_dict(fitted.state_dict())
    assert other.log_z == fitted.log_z
    x = torch.randn(5, 2, dtype=torch.float64)
    assert torch.equal(other.log_prob(x), fitted.log_prob(x))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda: Funnel(scale=2.0), Funnel),
        (lambda: DoubleWell(barrier=2.0), DoubleWell),
        (lambda: Banana(scale=2.0, width=0.1), Banana),
        pytest.param(lambda: Banana(curvature=2.0), Banana),
        pytest.param(lambda: Ring(noise=0.5), Ring),
    ],
)
def test_the_whole_shape_travels_with_the_state(
    one: Callable[[], AnalyticEnergy], other: Callable[[], AnalyticEnergy]
) -> None:
    """A base that is loaded from a file is the base that was saved."""
    saved, loaded = one(), other()
    loaded.load_state_dict(saved.state_dict())
    x = torch.randn(5, 2)
    torch.testing.assert_close(loaded.log_prob(x), saved.log_prob(x))


@pytest.mark.parametrize(
    ("whole", "decimal"),
    [
        (lambda: Funnel(scale=3), lambda: Funnel(scale=3.0)),
        (lambda: DoubleWell(barrier=4), lambda: DoubleWell(barrier=4.0)),
        (lambda: Banana(scale=1, width=1), lambda: Banana(scale=1.0, width=1.0)),
        (lambda: Ring((2,), noise=1), lambda: Ring((2.0,), noise=1.0)),
        (lambda: Gaussian([0, 1]), lambda: Gaussian([0.0, 1.0])),
        (lambda: GaussianMixture(torch.tensor([[0, 1]]), 1), lambda: GaussianMixture(torch.tensor([[0.0, 1.0]]), 1.0)),
    ],
    ids=["funnel", "double-well", "banana", "ring", "gaussian", "mixture"],
)
def test_whole_numbers_are_numbers(whole: Callable[[], AnalyticEnergy], decimal: Callable[[], AnalyticEnergy]) -> None:
    x = decimal().sample(5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(whole().sample(5, generator=torch.Generator().manual_seed(0)), x)
    assert torch.equal(whole().log_prob(x), decimal().log_prob(x))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Gaussian(torch.zeros(2, 2)), "mean must be"),
        (lambda: Gaussian([0.0, 0.0], torch.eye(3)), r"covariance \(dim, dim\), got \(2,\) and \(3, 3\)"),
        (lambda: Gaussian([0.0, 0.0], torch.tensor([[1.0, 2.0], [2.0, 1.0]])), "not positive definite"),
        (lambda: Gaussian([0.0], torch.tensor([[math.nan]])), "not positive definite"),
        (lambda: GaussianMixture(torch.zeros(3)), r"means must be \(K, dim\)"),
        (lambda: GaussianMixture(torch.zeros(2, 1), weights=[1.0]), "weights must be 2 positive numbers"),
        (lambda: GaussianMixture(torch.zeros(2, 1), weights=[1.0, 0.0]), "weights must be 2 positive numbers"),
        (lambda: GaussianMixture(torch.zeros(2, 1), weights=[1.0, math.nan]), "weights must be 2 positive numbers"),
        (lambda: GaussianMixture(torch.zeros(2, 1), -1.0), "not positive definite"),
        (lambda: GaussianMixture(torch.zeros(2, 1), 0.0), "not positive definite"),
        (lambda: Banana(1), "dim must be at least 2, got 1"),
        (lambda: Banana(scale=0.0), "scale must"),
        (lambda: Banana(width=-1.0), "width must"),
        (lambda: Funnel(1), "dim must be at least 2, got 1"),
        (lambda: Funnel(scale=math.inf), "scale must"),
        (lambda: Ring((1.0, 0.0)), "radii must"),
        (lambda: Ring(noise=0.0), "noise must"),
        (lambda: DoubleWell(0), "dim must be at least 1, got 0"),
        (lambda: DoubleWell(barrier=0.0), "barrier must"),
        (lambda: GaussianMixture.from_sklearn(object()), "not fitted"),
    ],
)
def test_parameters_that_are_none_are_refused(make: Callable[[], AnalyticEnergy], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: Ring(()), id="no-rings"),
        pytest.param(lambda: Gaussian([0.0, 0.0], torch.tensor([[1.0, 0.9], [0.0, 1.0]])), id="not-symmetric"),
        # read as one variance for each component, taken for a matrix that all share
        pytest.param(lambda: GaussianMixture(torch.zeros(2, 2), torch.tensor([1.0, 2.0])), id="variances"),
        pytest.param(lambda: Gaussian(torch.tensor(0.0)), id="a-number-for-the-mean"),
    ],
)
def test_parameters_that_slip_through(make: Callable[[], AnalyticEnergy]) -> None:
    with pytest.raises(ValueError, match=r"radii|symmetric|covariance|mean"):
        make()
