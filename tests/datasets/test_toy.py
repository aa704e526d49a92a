"""Toy densities: normalised, drawn from exactly, and repeatable.

Two of them are integrated in other coordinates: the funnel's mouth is hundreds of units wide where its neck is one
hundredth, so it is integrated over (x1, x2 e^{-x1 / 2}); the banana likewise in the coordinates that follow its bend.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from chainfree.datasets.toy import (
    TOY_DENSITIES,
    Checkerboard,
    NoisyCurve,
    Pinwheel,
    moons,
    swiss_roll,
    toy_density,
    two_spirals,
)

Box = tuple[tuple[float, float], tuple[float, float]]

# boxes that hold all but a billionth of the mass, and fit the checkerboard's squares
BOXES: dict[str, Box] = {
    "25gaussians": ((-3.8, 3.8), (-3.8, 3.8)),
    "8gaussians": ((-5, 5), (-5, 5)),
    "unequal_mixture": ((-6.2, 6.2), (-6.2, 6.2)),
    "moons": ((-4.4, 4.4), (-3, 3)),
    "rings": ((-3.7, 3.7), (-3.7, 3.7)),
    "pinwheel": ((-5.6, 5.6), (-5.6, 5.6)),
    "two_spirals": ((-3.9, 3.9), (-3.9, 3.9)),
    "checkerboard": ((-5, 5), (-5, 5)),
    "swiss_roll": ((-3.6, 4.2), (-4, 4)),
    "banana": ((-9, 9), (-3.2, 3.2)),
    "funnel": ((-18, 18), (-6.2, 6.2)),
}
# midpoints at most 0.4 standard deviations apart: the rule is exact to rounding for blurred shapes
FINE, COARSE = 200, 20


def _straight(name: str, x: Tensor) -> Tensor:
    """To the coordinates of integration."""
    if name == "funnel":
        return torch.stack([x[:, 0], x[:, 1] * torch.exp(-x[:, 0] / 2)], dim=1)
    if name == "banana":
        return torch.stack([x[:, 0], x[:, 1] - 0.5 * (x[:, 0] ** 2 - 2.25)], dim=1)
    return x


def _bent(name: str, u: Tensor) -> tuple[Tensor, Tensor]:
    """Back, with the logarithm of the volume."""
    if name == "funnel":
        return torch.stack([u[:, 0], u[:, 1] * torch.exp(u[:, 0] / 2)], dim=1), u[:, 0] / 2
    if name == "banana":
        return torch.stack([u[:, 0], u[:, 1] + 0.5 * (u[:, 0] ** 2 - 2.25)], dim=1), torch.zeros(len(u)).double()
    return u, torch.zeros(len(u)).double()


@pytest.fixture(scope="module", params=TOY_DENSITIES, ids=str)
def integrated(request: pytest.FixtureRequest) -> tuple[str, Any, np.ndarray, np.ndarray]:
    """Name, density in float64, and on midpoints of a fine grid the mass of the cells and the log-density."""
    name = request.param
    density = toy_density(name).double()  # type: ignore[attr-defined]
    axes, area = [], 1.0
    for low, high in BOXES[name]:
        step = (high - low) / FINE
        axes.append(low + step * (torch.arange(FINE, dtype=torch.float64) + 0.5))
        area *= step
    x, volume = _bent(name, torch.cartesian_prod(*axes))
    with torch.no_grad():
        log_prob = density.log_prob(x)
    mass = (log_prob + volume).exp() * area
    return name, density, mass.view(FINE, FINE).numpy(), log_prob.view(FINE, FINE).numpy()


def test_it_is_normalised(integrated: tuple[str, Any, np.ndarray, np.ndarray]) -> None:
    _, _, mass, _ = integrated
    assert mass.sum() == pytest.approx(1.0, abs=1e-5)


def test_draws_follow_the_log_density(integrated: tuple[str, Any, np.ndarray, np.ndarray]) -> None:
    name, density, mass, log_prob = integrated
    n = 20_000
    x = density.sample(n, generator=torch.Generator().manual_seed(1))
    u = _straight(name, x).numpy()

    # counts in the cells of a coarse grid, those that expect few draws taken together
    (a, b), (c, d) = BOXES[name]
    counts, _, _ = np.histogram2d(u[:, 0], u[:, 1], bins=COARSE, range=[[a, b], [c, d]])
    expected = n * mass.reshape(COARSE, FINE // COARSE, COARSE, FINE // COARSE).sum((1, 3))
    many = expected >= 8
    seen = np.append(counts[many], n - counts[many].sum())
    wanted = np.append(expected[many], n - expected[many].sum())
    if wanted[-1] < 8:
        seen, wanted = seen[:-1], wanted[:-1]
    assert len(wanted) > 20
    statistic = ((seen - wanted) ** 2 / wanted).sum()
    assert stats.chi2(len(wanted) - 1).sf(statistic) > 1e-3

    # and the mean log-density of the draws is minus the integrated entropy
    with np.errstate(invalid="ignore"):
        entropy = -np.where(mass > 0, mass * log_prob, 0.0).sum()
    values = density.log_prob(x).numpy()
    assert abs(values.mean() + entropy) < 4 * values.std() / math.sqrt(n) + 1e-5


@pytest.mark.parametrize("name", TOY_DENSITIES)
def test_it_is_planar_repeatable_and_leaves_the_global_generator_alone(name: str) -> None:
    before = torch.get_rng_state()
    density = toy_density(name)
    first = density.sample(50, generator=torch.Generator().manual_seed(4))
    second = density.sample(50, generator=torch.Generator().manual_seed(4))
    other = density.sample(50, generator=torch.Generator().manual_seed(5))
    assert torch.equal(torch.get_rng_state(), before)
    assert first.shape == (50, 2)
    assert first.dtype == torch.float32
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert density.log_prob(first).shape == (50,)
    assert torch.isfinite(density.log_prob(first)).all()


@pytest.mark.parametrize("name", [n for n in TOY_DENSITIES if n != "checkerboard"])
def test_scores_agree_with_finite_differences(name: str) -> None:
    density = toy_density(name).double()  # type: ignore[attr-defined]
    x = density.sample(30, generator=torch.Generator().manual_seed(0))
    x[0] = 0.0
    x.requires_grad_()
    (score,) = torch.autograd.grad(density.log_prob(x).sum(), x)
    assert torch.isfinite(score).all()
    h = 1e-6
    for k in range(2):
        step = h * torch.eye(2, dtype=torch.float64)[k]
        numeric = (density.log_prob(x + step) - density.log_prob(x - step)) / (2 * h)
        size = 1 + score.detach().abs().amax(1)
        # the curvature is up to 1 / 0.1^2, and 1e4 in the funnel's neck; row 0 is the pinwheel's cusp
        assert bool(((score[:, k] - numeric).abs() < 1e-4 * size)[1:].all())


def test_an_unknown_name_is_answered_with_the_names() -> None:
    with pytest.raises(ValueError, match="no toy density is called 'mooons'") as error:
        toy_density("mooons")
    for name in TOY_DENSITIES:
        assert name in str(error.value)


def test_the_checkerboard_is_flat_on_the_dark_squares_and_nothing_elsewhere() -> None:
    board = Checkerboard()
    centres = torch.tensor([[-3.0, -3.0], [-1.0, -3.0], [-1.0, -1.0], [3.0, 3.0], [5.0, 5.0], [-4.5, -3.0], [4.0, 3.0]])
    values = board.log_prob(centres)
    assert values[[0, 2, 3]].tolist() == pytest.approx([-math.log(32)] * 3)
    assert values[[1, 4, 5, 6]].tolist() == [-math.inf] * 4


def test_the_checkerboard_s_own_draws_never_lie_off_it(monkeypatch: pytest.MonkeyPatch) -> None:
    board = Checkerboard()
    largest = 1 - 2.0**-24  # of torch.rand in float32
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.full(shape, largest))
    assert torch.isfinite(board.log_prob(board.sample(200, generator=torch.Generator().manual_seed(0)))).all()


# points near the centre
RANDOM = torch.randn(40, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def _dense(curve: Callable[[Tensor], Tensor], n: int, noise: float) -> NoisyCurve:
    return NoisyCurve(curve((torch.arange(n, dtype=torch.float64) + 0.5) / n), noise=noise)


def _swiss(u: Tensor) -> Tensor:
    angle = 1.5 * math.pi * (1 + 2 * u)
    return torch.stack([angle * angle.cos(), angle * angle.sin()], dim=-1) / 5


def _half_circles(u: Tensor) -> Tensor:
    angle = math.pi * u
    upper = torch.stack([2 * angle.cos() - 1, 2 * angle.sin() - 0.5], dim=-1)
    lower = torch.stack([1 - 2 * angle.cos(), 0.5 - 2 * angle.sin()], dim=-1)
    return torch.cat([upper, lower])


def _arms(u: Tensor) -> Tensor:
    angle = 3 * math.pi * u.sqrt()
    arm = torch.stack([-angle.cos() * angle, angle.sin() * angle], dim=-1) / 3
    return torch.cat([arm, -arm])


@pytest.mark.parametrize(
    ("ours", "curve"),
    [
        pytest.param(moons, _half_circles, id="moons"),
        pytest.param(swiss_roll, _swiss, id="swiss-roll"),
        pytest.param(two_spirals, _arms, id="two-spirals"),
    ],
)
def test_the_nodes_stand_for_the_continuous_curve(
    ours: Callable[[], NoisyCurve], curve: Callable[[Tensor], Tensor]
) -> None:
    density = ours().double()
    x = torch.cat([density.sample(150, generator=torch.Generator().manual_seed(0)), 0.05 * RANDOM])
    fine = _dense(curve, 20_000, float(density.noise))
    # beyond the ends of a curve the midpoint rule is of second order only
    torch.testing.assert_close(density.log_prob(x), fine.log_prob(x), rtol=0, atol=1e-3)


def test_moons_are_scikit_learn_s_at_twice_the_scale() -> None:
    from sklearn.datasets import make_moons

    theirs, _ = make_moons(400, noise=None)
    theirs = 2 * (theirs - [0.5, 0.25])
    nodes = moons().nodes.numpy()
    nearest = np.sqrt(((theirs[:, None] - nodes) ** 2).sum(-1).min(1))
    assert nearest.max() < 0.01


def test_a_curve_of_one_node_is_a_normal() -> None:
    curve = NoisyCurve(torch.tensor([[1.0, -2.0]], dtype=torch.float64), noise=0.7)
    x = torch.randn(9, 2, dtype=torch.float64)
    np.testing.assert_allclose(curve.log_prob(x), stats.multivariate_normal([1.0, -2.0], 0.49).logpdf(x), rtol=1e-12)


def test_a_pinwheel_without_twist_is_a_ring_of_normals() -> None:
    pinwheel = Pinwheel(3, distance=1.5, radial=0.5, tangential=0.2, twist=0.0).double()
    x = torch.randn(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    density = np.zeros(50)
    for k in range(3):
        angle = 2 * math.pi * k / 3
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        covariance = turn @ np.diag([0.25, 0.04]) @ turn.T
        density += stats.multivariate_normal(turn @ [1.5, 0.0], covariance).pdf(x.numpy()) / 3
    np.testing.assert_allclose(pinwheel.log_prob(x), np.log(density), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: moons(noise=0.0), "noise must"),
        (lambda: two_spirals(noise=-1.0), "noise must"),
        (lambda: swiss_roll(noise=math.nan), "noise must"),
        (lambda: Pinwheel(0), "petals must"),
        (lambda: Pinwheel(radial=0.0), "radial must"),
    ],
)
def test_parameters_that_are_none_are_refused(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_a_petal_is_turned_by_an_angle_that_grows_with_the_radius(generator: torch.Generator) -> None:
    for distance, radius in [(2.0, 2.0), (1.3, 1.3)]:
        speck = Pinwheel(1, distance=distance, radial=1e-3, tangential=1e-3, twist=0.3)
        mean = speck.sample(500, generator=generator).mean(0)
        angle = 0.3 * math.exp(radius / distance)
        assert mean.tolist() == pytest.approx([radius * math.cos(angle), radius * math.sin(angle)], abs=1e-3)
