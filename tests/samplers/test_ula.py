"""Unadjusted Langevin as a kernel: the same steps as the function, and the bias it has."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from chainfree.checks import ContractError
from chainfree.energies import Banana
from chainfree.samplers import MinusEnergy, langevin, mala, run, ula


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normal(x: Tensor) -> Tensor:
    return -0.5 * x.square().sum(1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_steps_are_those_of_langevin_bit_by_bit(dtype: torch.dtype) -> None:
    energy = Banana(3).to(dtype)
    x = torch.randn(40, 3, dtype=dtype, generator=_seeded())
    state, generator = ula.init(lambda v: -energy(v), x), _seeded(1)
    for _ in range(5):
        state, _ = ula.step(lambda v: -energy(v), state, step_size=0.0625, generator=generator)
    assert torch.equal(state.x, langevin(energy, x, steps=5, step_size=0.0625, generator=_seeded(1)))


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_it_keeps_the_wrong_variance_that_theory_gives(scale: float) -> None:
    h = 1.6
    variance = scale**2 / (1 - h / 4)
    scales = torch.tensor([scale], dtype=torch.float64)
    target = lambda v: _normal(v / scale)  # noqa: E731
    x = variance**0.5 * torch.randn(100_000, 1, dtype=torch.float64, generator=_seeded(1))
    state, generator = ula.init(target, x), _seeded(2)
    for _ in range(3):
        state, _ = ula.step(target, state, step_size=h, scales=scales, generator=generator)
    assert state.x.var().item() == pytest.approx(variance, rel=0.018)  # four standard errors


def test_it_reports_what_mala_would_have_accepted() -> None:
    energy = Banana(2).double()
    x = energy.sample(300, generator=_seeded())
    log_density = lambda v: -energy(v)  # noqa: E731
    _, ours = ula.step(log_density, ula.init(log_density, x), step_size=0.3, generator=_seeded(1))
    _, theirs = mala.step(log_density, mala.init(log_density, x), step_size=0.3, generator=_seeded(1))
    assert torch.equal(ours.acceptance, theirs.acceptance) and ours.acceptance.std() > 0.1


def test_warm_up_leaves_the_step_size_alone_unless_told_a_target() -> None:
    x = torch.randn(300, 2, dtype=torch.float64, generator=_seeded())
    options = {"draws": 30, "warmup": 60, "metric": False}
    free = run(ula.kernel(_normal), x, step_size=0.1, generator=_seeded(1), **options)
    assert free.step_size.item() == 0.1 and free.acceptance is None
    tuned = run(ula.kernel(_normal), x, step_size=0.1, target=0.9, generator=_seeded(1), **options)
    assert tuned.acceptance is not None and tuned.step_size.item() > 0.2
    assert tuned.acceptance.item() == pytest.approx(0.9, abs=0.03)


def test_a_chain_that_is_lost_is_flagged() -> None:
    state = ula.init(_normal, torch.full((4, 2), 1e3))
    flagged = False
    for _ in range(4):
        state, info = ula.step(_normal, state, step_size=1e15, generator=_seeded())
        flagged = bool(info.diverging.all())
    assert flagged and not bool(torch.isfinite(state.log_density).any())
    with pytest.raises(ValueError, match="step_size must be a finite number above 0"):
        ula.step(_normal, state, step_size=-1.0)


def test_minus_an_energy_is_its_log_density_bit_by_bit() -> None:
    energy = Banana(3)
    x = energy.sample(40, generator=_seeded())
    ours, theirs = ula.init(MinusEnergy(energy), x), ula.init(lambda v: -energy(v), x)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one, other)
    with pytest.raises(ContractError, match="squeeze the last axis"):
        ula.init(MinusEnergy(lambda v: v[:, :1]), x)
