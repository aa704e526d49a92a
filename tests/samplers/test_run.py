"""One loop over every kernel, and what it says about the chains."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from chainfree.checks import ContractError
from chainfree.energies import MLP, Gaussian
from chainfree.samplers import (
    Kernel,
    effective_sample_size,
    hmc,
    mala,
    r_hat,
    run,
    tempering,
    ula,
    underdamped,
)

arviz = pytest.importorskip("arviz")


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normal(x: Tensor) -> Tensor:
    return -0.5 * x.flatten(1).square().sum(1)


KERNELS: dict[str, Callable[[Callable[[Tensor], Tensor]], Kernel[Any]]] = {
    "ula": ula.kernel,
    "mala": mala.kernel,
    "hmc": lambda log_density: hmc.kernel(log_density, leapfrog=3, jitter=0.2),
    "underdamped": underdamped.kernel,
    "unadjusted": lambda log_density: underdamped.kernel(log_density, adjusted=False),
    "tempering": lambda log_density: tempering.kernel(log_density, betas=[1.0, 0.5, 0.2], leapfrog=2),
}
every_kernel = pytest.mark.parametrize("name", KERNELS)


@every_kernel
def test_it_draws_from_a_correlated_normal(name: str) -> None:
    covariance = torch.tensor([[1.0, 0.6], [0.6, 0.5]], dtype=torch.float64)
    target = Gaussian(torch.tensor([1.0, -2.0], dtype=torch.float64), covariance)
    start = 3 * torch.randn(400, 2, dtype=torch.float64, generator=_seeded())
    record = run(
        KERNELS[name](lambda x: -target(x)),
        start,
        draws=100,
        warmup=300,
        thin=2,
        step_size=0.05,
        generator=_seeded(1),
    )
    assert record.draws.shape == (100, 400, 2) and torch.equal(record.draws[-1], record.state.x)
    means = record.draws.mean(0)
    z = (means.mean(0) - target.mean) / (means.std(0) / 400**0.5)
    assert z.abs().max().item() < 4
    below = (record.draws < target.mean - 1.2815515655 * covariance.diagonal().sqrt()).double().mean(0)
    bias = 0.01 if name in ("ula", "unadjusted") else 0.0
    assert ((below.mean(0) - 0.1).abs() < 4 * below.std(0) / 400**0.5 + bias).all()
    assert int(record.divergences) == 0
    if name not in ("ula", "unadjusted"):
        assert record.r_hat().max().item() < 1.15


@every_kernel
def test_the_generator_alone_decides_and_nothing_else_changes(name: str) -> None:
    energy, x = MLP(2, width=8, depth=1), torch.randn(6, 2)
    kept, before = x.clone(), torch.get_rng_state()
    kernel = KERNELS[name](lambda v: -energy(v) - 0.5 * v.square().sum(1))
    first, again, other = (
        run(kernel, x, draws=4, warmup=6, step_size=0.1, generator=_seeded(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), before) and torch.equal(x, kept)
    assert torch.equal(first.draws, again.draws) and not torch.equal(first.draws, other.draws)
    assert not first.draws.requires_grad and all(p.grad is None for p in energy.parameters())


@every_kernel
def test_rows_do_not_see_each_other(name: str) -> None:
    kernel, x = KERNELS[name](_normal), torch.randn(5, 2, dtype=torch.float64, generator=_seeded())
    options = {"draws": 3, "warmup": 0, "step_size": 0.3}
    ours = run(kernel, x, generator=_seeded(1), **options).draws
    x[4] = 20.0
    assert torch.equal(ours[:, :4], run(kernel, x, generator=_seeded(1), **options).draws[:, :4])


@every_kernel
def test_events_may_have_axes_and_types(name: str) -> None:
    x = torch.randn(4, 1, 2, 3, generator=_seeded())
    record = run(KERNELS[name](_normal), x, draws=5, warmup=4, step_size=0.1, generator=_seeded(1))
    assert record.draws.shape == (5, 4, 1, 2, 3) and record.draws.dtype == torch.float32
    assert record.scales is not None and record.scales.shape == (1, 2, 3)
    assert record.r_hat().shape == record.effective_sample_size().shape == (1, 2, 3)


@every_kernel
def test_a_step_brings_nothing_to_the_host(name: str) -> None:
    # on the meta device there are no values that could be read
    kernel = KERNELS[name](_normal)
    x = torch.zeros(4, 2, device="meta")
    state = kernel.init(x)
    size = torch.full(kernel.shape, 0.1, device="meta")
    for _ in range(2):
        state, info = kernel.step(state, step_size=size, scales=torch.ones(2, device="meta"))
    assert state.x.shape == (4, 2) and info.acceptance.shape == info.diverging.shape == (*kernel.shape, 4)


@every_kernel
def test_densities_that_are_nan_are_counted_as_divergences(name: str) -> None:
    hole = lambda v: _normal(v).masked_fill(v[:, 0] > 0.5, torch.nan)  # noqa: E731
    x = torch.full((50, 1), -0.5, dtype=torch.float64)
    record = run(KERNELS[name](hole), x, draws=20, warmup=0, step_size=0.5, generator=_seeded())
    assert int(record.divergences) > 20
    if name not in ("ula", "unadjusted"):
        assert bool((record.draws <= 0.5).all())


def test_thinning_keeps_every_second_state_of_the_same_chain() -> None:
    x = torch.zeros(3, 2)
    options = {"warmup": 5, "step_size": 0.2}
    every = run(mala.kernel(_normal), x, draws=8, generator=_seeded(), **options)
    half = run(mala.kernel(_normal), x, draws=4, thin=2, generator=_seeded(), **options)
    assert torch.equal(every.draws[1::2], half.draws)
    torch.testing.assert_close(every.acceptance, half.acceptance)


def _autoregressive(draws: int, chains: int, memory: float) -> Tensor:
    noise = torch.randn(draws, chains, dtype=torch.float64, generator=_seeded())
    x = [noise[0]]
    for row in noise[1:]:
        x.append(memory * x[-1] + (1 - memory**2) ** 0.5 * row)
    return torch.stack(x)


@pytest.mark.parametrize("memory", [0.0, 0.6])
def test_the_effective_sample_size_is_that_of_an_autoregression(memory: float) -> None:
    draws = _autoregressive(2000, 20, memory)
    expected = draws.numel() * (1 - memory) / (1 + memory)
    assert effective_sample_size(draws).item() == pytest.approx(expected, rel=0.08)
    assert r_hat(draws).item() == pytest.approx(1.0, abs=0.005)


def test_r_hat_tells_chains_that_have_not_met_from_those_that_have() -> None:
    draws = _autoregressive(200, 6, 0.5).unsqueeze(-1).repeat(1, 1, 2)
    draws[:, :3, 1] += 2.0
    found = r_hat(draws)
    assert found[0] < 1.02 and found[1] > 1.3
    # by the definition: normal scores of the ranks, in halves
    ranks = torch.from_numpy(stats.rankdata(draws[..., 1].numpy()).reshape(200, 6))
    scores = torch.from_numpy(stats.norm.ppf((ranks.numpy() - 0.375) / (1200 + 0.25)))
    halves = torch.cat([scores[:100], scores[100:]], dim=1)
    within = halves.var(0).mean()
    expected = ((99 / 100 * within + halves.mean(0).var()) / within).sqrt()
    assert found[1].item() == pytest.approx(expected.item(), rel=1e-6)


def test_too_few_draws_and_lost_chains_have_no_diagnostics() -> None:
    assert bool(r_hat(torch.randn(3, 50, 2)).isnan().all())
    assert bool(effective_sample_size(torch.randn(3, 50, 2)).isnan().all())
    draws = torch.randn(50, 4, 2, generator=_seeded())
    draws[7, 1, 1] = torch.nan
    assert torch.equal(r_hat(draws).isnan(), torch.tensor([False, True]))
    with pytest.raises(ContractError, match=r"draws must be \(draws, chains, \*event\), got \(9,\)"):
        r_hat(torch.zeros(9))


def test_without_arviz_drawing_works_and_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "arviz", None)
    record = run(mala.kernel(_normal), torch.zeros(3, 2), draws=5, warmup=0, step_size=0.1, generator=_seeded())
    with pytest.raises(ImportError, match=r"pip install 'chainfree\[diagnostics\]'"):
        record.r_hat()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"draws": 0}, "draws must be a whole number above 0, got 0"),
        ({"thin": 0}, "thin must be a whole number above 0, got 0"),
        ({"warmup": -1}, "warmup must be a whole number of at least 0, got -1"),
        ({"step_size": 0.0}, "step_size must be a finite number above 0"),
        ({"target": 2.0}, "target must be an acceptance rate"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], words: str) -> None:
    settings = {"draws": 2, "warmup": 2, "step_size": 0.1, **options}
    with pytest.raises(ValueError, match=words):
        run(mala.kernel(_normal), torch.zeros(3, 2), **settings)
