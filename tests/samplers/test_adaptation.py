"""Step sizes and metrics that warm-up finds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from chainfree.checks import ContractError
from chainfree.energies import AnalyticEnergy, Banana, Funnel, Gaussian, GaussianMixture
from chainfree.samplers import Kernel, hmc, mala, warm_up
from chainfree.samplers.adaptation import adapt, add_moments, scales_from, start_adaptation, start_moments


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


TARGETS: dict[str, AnalyticEnergy] = {
    "banana": Banana(2).double(),
    "funnel": Funnel(2, scale=1.0).double(),
    "mixture": GaussianMixture(torch.tensor([[-1.0, 0.0], [1.0, 1.0]], dtype=torch.float64), 0.3),
    "stretched": Gaussian(
        torch.zeros(3, dtype=torch.float64), torch.diag(torch.tensor([1e-4, 1.0, 1e2], dtype=torch.float64))
    ),
}
KERNELS: dict[str, Callable[[Any], Kernel[Any]]] = {
    "mala": mala.kernel,
    "hmc": lambda log_density: hmc.kernel(log_density, leapfrog=5, jitter=0.3),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", KERNELS)
def test_after_warm_up_the_acceptance_is_the_one_aimed_at(name: str, target: str) -> None:
    energy = TARGETS[target]
    kernel = KERNELS[name](lambda x: -energy(x))
    x = torch.randn(300, energy.dim, dtype=torch.float64, generator=_seeded())
    generator = _seeded(1)
    for aim in (None, 0.9):
        ready = warm_up(kernel, x, steps=150, step_size=0.1, target=aim, generator=generator)
        assert ready.scales is not None and ready.step_size.shape == ()
        state, rates = ready.state, []
        for _ in range(50):
            state, info = kernel.step(state, step_size=ready.step_size, scales=ready.scales, generator=generator)
            rates.append(info.acceptance.mean())
        assert torch.stack(rates).mean().item() == pytest.approx(aim or kernel.target, abs=0.05)


def test_scales_are_the_standard_deviations_and_make_long_steps_possible() -> None:
    spread = torch.tensor([0.01, 1.0, 10.0], dtype=torch.float64)
    energy = TARGETS["stretched"]
    kernel = KERNELS["hmc"](lambda x: -energy(x))
    x = torch.randn(300, 3, dtype=torch.float64, generator=_seeded())
    ready = warm_up(kernel, x, steps=200, step_size=0.01, generator=_seeded(1))
    assert ready.scales is not None
    torch.testing.assert_close(ready.scales, spread, rtol=0.05, atol=0)
    assert ready.step_size.item() > 1.0
    plain = warm_up(kernel, x, steps=200, step_size=0.01, metric=False, generator=_seeded(1))
    assert plain.scales is None and plain.step_size.item() < 0.03


@pytest.mark.parametrize("shape", [(), (3,), (2, 4)])
def test_moments_are_those_of_all_rows_together(shape: tuple[int, ...]) -> None:
    rows = 1e4 + torch.randn(90, *shape, dtype=torch.float64, generator=_seeded())
    moments = start_moments(rows)
    for part in rows.split([1, 50, 39]):
        moments = add_moments(moments, part)
    assert moments.rows == 90
    torch.testing.assert_close(moments.mean, rows.mean(0))
    expected = (90 / 95 * rows.var(0) + 5 / 95 * 1e-3).sqrt()
    torch.testing.assert_close(scales_from(moments), expected, rtol=1e-9, atol=0)


def test_a_feature_that_never_moved_keeps_a_scale_above_zero() -> None:
    moments = add_moments(start_moments(torch.zeros(5, 2)), torch.tensor([[0.0, 1.0]]).expand(10, 2))
    assert bool((scales_from(moments) > 0).all())


def test_each_temperature_finds_its_own_step_size() -> None:
    # acceptance as a known function of the step size, a different one in each row
    widths = torch.tensor([1.0, 10.0], dtype=torch.float64)
    size = start_adaptation(torch.ones(2, dtype=torch.float64), widths)
    for _ in range(300):
        acceptance = torch.exp(-size.step_size / widths).unsqueeze(1).expand(2, 7)
        size = adapt(size, acceptance, target=0.7)
    torch.testing.assert_close(size.average, -widths * torch.tensor(0.7, dtype=torch.float64).log(), rtol=0.05, atol=0)


def test_without_steps_it_only_starts_the_chains() -> None:
    x = torch.randn(5, 2, generator=_seeded())
    kernel = KERNELS["hmc"](lambda v: -0.5 * v.square().sum(1))
    ready = warm_up(kernel, x, steps=0, step_size=0.3)
    assert torch.equal(ready.state.x, x) and ready.step_size.item() == pytest.approx(0.3) and ready.scales is None


def test_the_generator_alone_decides_and_the_rows_stay() -> None:
    energy, before = TARGETS["banana"], torch.get_rng_state()
    x = torch.randn(20, 2, dtype=torch.float64)
    kept, before = x.clone(), torch.get_rng_state()
    kernel = KERNELS["mala"](lambda v: -energy(v))
    first, again, other = (warm_up(kernel, x, steps=30, step_size=0.1, generator=_seeded(s)) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before) and torch.equal(x, kept)
    assert torch.equal(first.state.x, again.state.x) and torch.equal(first.step_size, again.step_size)
    assert not torch.equal(first.state.x, other.state.x)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": -1}, "steps must be a whole number of at least 0, got -1"),
        ({"steps": 1.5}, r"steps must be a whole number of at least 0, got 1\.5"),
        ({"step_size": 0.0}, "step_size must be a finite number above 0"),
        ({"target": 1.0}, r"target must be an acceptance rate between 0 and 1, got 1\.0"),
        ({"x": torch.zeros(0, 2)}, "there are no chains; give at least one row"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], words: str) -> None:
    settings = {"x": torch.zeros(3, 2), "steps": 5, "step_size": 0.1, **options}
    x = settings.pop("x")
    with pytest.raises(ValueError, match=words):
        warm_up(mala.kernel(lambda v: -v.square().sum(1)), x, **settings)
    with pytest.raises(ValueError, match="scales need at least 2 rows, got 0"):
        scales_from(start_moments(torch.zeros(3, 2)))


def test_what_is_no_density_is_refused() -> None:
    with pytest.raises(ContractError, match=r"shape \(3, 1\) for 3 rows"):
        warm_up(mala.kernel(lambda v: v[:, :1]), torch.zeros(3, 2), steps=5, step_size=0.1)
