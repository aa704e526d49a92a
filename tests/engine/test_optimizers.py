"""Schedules against their formulas; what the records refuse."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import Parameter

from chainfree.engine import Constant, Cosine, OptimizerSettings, ScheduleSettings

totals = st.integers(1, 10_000).flatmap(lambda total: st.tuples(st.just(total), st.integers(0, total - 1)))


@given(totals, st.floats(0, 1), st.integers(0, 500))
def test_cosine(total_step: tuple[int, int], final: float, warmup: int) -> None:
    total, step = total_step
    factor = Cosine(final=final, warmup=warmup).factor(step, total)
    if step < warmup:
        assert factor == pytest.approx((step + 1) / warmup)
    else:
        cosine = math.cos(math.pi * (step - warmup) / (total - warmup))
        assert factor == pytest.approx(final + (1 - final) * (1 + cosine) / 2)
    assert 0 <= factor <= 1


@given(totals, st.integers(0, 500))
def test_constant(total_step: tuple[int, int], warmup: int) -> None:
    total, step = total_step
    assert Constant(warmup=warmup).factor(step, total) == (
        1.0 if step >= warmup else pytest.approx((step + 1) / warmup)
    )


def test_known_values() -> None:
    assert [Cosine().factor(step, 4) for step in range(4)] == pytest.approx([1.0, 0.853553391, 0.5, 0.146446609])
    assert [Cosine(final=0.2).factor(step, 4) for step in (2, 4, 9)] == pytest.approx([0.6, 0.2, 0.2])
    assert [Constant(warmup=4).factor(step, 9) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert Cosine(warmup=5).factor(5, 5) == 1.0  # nothing left to decay over


def test_the_rate_is_continuous_at_the_end_of_the_warm_up() -> None:
    schedule = Cosine(warmup=10)
    assert schedule.factor(9, 100) == schedule.factor(10, 100) == 1.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OptimizerSettings(lr=0.0), "lr .* got 0.0"),
        (lambda: OptimizerSettings(lr=math.nan), "lr .* got nan"),
        (lambda: OptimizerSettings(lr=True), "lr .* got True"),
        (lambda: OptimizerSettings(betas=(0.9, 1.0)), "betas .* got 1.0"),
        (lambda: OptimizerSettings(betas=(-0.1, 0.9)), "betas .* got -0.1"),
        (lambda: OptimizerSettings(eps=0.0), "eps .* got 0.0"),
        (lambda: OptimizerSettings(weight_decay=-1.0), "weight_decay .* got -1.0"),
        (lambda: Constant(warmup=-1), "warmup .* got -1"),
        (lambda: Cosine(warmup=math.inf), "warmup .* got inf"),  # type: ignore[arg-type]
        (lambda: Cosine(final=-0.5), "final .* got -0.5"),
        (lambda: Cosine(final=math.nan), "final .* got nan"),
    ],
)
def test_records_refuse(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_schedule_is_no_schedule_by_itself() -> None:
    with pytest.raises(TypeError):
        ScheduleSettings()  # type: ignore[abstract]


@pytest.mark.parametrize(("dtype", "fused"), [(torch.float32, True), (torch.float64, True), (torch.bfloat16, False)])
def test_what_is_built_has_the_settings(dtype: torch.dtype, fused: bool) -> None:
    parameter = Parameter(torch.ones(2, dtype=dtype))
    settings = OptimizerSettings(lr=0.3, betas=(0.5, 0.6), eps=0.1, weight_decay=0.2)
    optimizer = settings.build([parameter])
    (group,) = optimizer.param_groups
    assert isinstance(optimizer, torch.optim.AdamW)
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (0.3, (0.5, 0.6), 0.1, 0.2)
    assert group["fused"] is fused
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    # first step: decay, then lr * g / (|g| + eps)
    assert parameter[0].item() == pytest.approx(
        1 - 0.3 * 0.2 - 0.3 / 1.1, rel=1e-2 if dtype == torch.bfloat16 else 1e-6
    )
