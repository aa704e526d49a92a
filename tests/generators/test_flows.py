"""zuko's flows as densities, and their fit."""

from __future__ import annotations

import math
import os
import signal
import sys
from typing import Any, get_args

import pytest
import torch
from scipy import stats
from torch import Tensor

from chainfree.datasets.toy import toy_density
from chainfree.energies import Coordinates, Gaussian
from chainfree.engine import HeldOut
from chainfree.fitting import fit_flow
from chainfree.generators import flows
from chainfree.generators.flows import Flow, FlowKind

pytest.importorskip("zuko")

KINDS = get_args(FlowKind)


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _bent(dim: int) -> Coordinates:
    """Large numbers, unlike scales and one heavy tail."""
    x = torch.randn(500, dim, dtype=torch.float64, generator=_seeded(1)) * torch.arange(1.0, dim + 1) + 100.0
    x[:, 0] = x[:, 0].sub(100).pow(3)
    return Coordinates.fit(x)


def _flow(kind: FlowKind, dim: int, **options: Any) -> Flow:
    """Away from where it starts, in float64."""
    flow = Flow(dim, kind=kind, width=16, coordinates=_bent(dim), **options).double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=_seeded(2), dtype=torch.float64))
    return flow


@pytest.mark.parametrize("dim", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_draws_go_back_to_the_noise_that_made_them(kind: FlowKind, dim: int) -> None:
    flow = _flow(kind, dim)
    x = flow.sample(300, generator=_seeded(3))
    noise = torch.randn(300, dim, generator=_seeded(3), dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(flow.maps()(flow.coordinates(x)), noise, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("dim", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_the_density_is_the_normal_s_times_autograd_s_jacobian(kind: FlowKind, dim: int) -> None:
    flow = _flow(kind, dim)
    x = flow.sample(8, generator=_seeded(3))
    rows = []
    for row in x:
        jacobian = torch.autograd.functional.jacobian(lambda r: flow.maps()(flow.coordinates(r.unsqueeze(0)))[0], row)
        with torch.no_grad():
            z = flow.maps()(flow.coordinates(row.unsqueeze(0)))[0]
        rows.append(stats.norm.logpdf(z.numpy()).sum() + float(torch.linalg.slogdet(jacobian).logabsdet))
    torch.testing.assert_close(flow.log_prob(x), torch.tensor(rows, dtype=torch.float64), rtol=1e-8, atol=1e-8)
    assert torch.equal(flow(x), -flow.log_prob(x))


@pytest.mark.parametrize("kind", KINDS)
def test_it_integrates_to_one(kind: FlowKind) -> None:
    flow = _flow(kind, 1)
    # in the space of u, where tails are short; splines may be steep, so the grid is fine
    u = torch.linspace(-15, 15, 200_001, dtype=torch.float64).unsqueeze(1)
    with torch.no_grad():
        x = flow.coordinates.inverse(u)
        log_p = flow.log_prob(x) - flow.coordinates.log_abs_det(x)
    assert float(torch.trapezoid(log_p.exp(), u[:, 0])) == pytest.approx(1.0, abs=1e-4)


def test_the_global_generator_is_left_alone() -> None:
    flow = _flow("nsf", 2)
    before = torch.get_rng_state()
    flow.sample(10, generator=_seeded())
    assert torch.equal(torch.get_rng_state(), before)


def test_a_state_brings_its_coordinates_along() -> None:
    one, other = _flow("maf", 2), Flow(2, kind="maf", width=16).double()
    other.load_state_dict(one.state_dict())
    x = one.sample(5, generator=_seeded())
    assert torch.equal(other(x), one(x))


# the fit -------------------------------------------------------------------------------------------------------------

QUICK: dict[str, Any] = {"kind": "nsf-coupling", "transforms": 2, "width": 16, "steps": 300, "lr": 5e-3, "batch": 128}


def _correlated(n: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Gaussian]:
    covariance = torch.tensor([[4.0, 1.2], [1.2, 0.5]], dtype=dtype)
    law = Gaussian(torch.tensor([50.0, -3.0], dtype=dtype), covariance)
    return law.sample(n, generator=_seeded(7)), law


def test_a_fit_finds_a_correlated_normal_in_its_own_units() -> None:
    x, law = _correlated(4000)
    flow = fit_flow(x, kind="maf", transforms=2, width=16, steps=400, lr=5e-3)
    test = law.sample(4000, generator=_seeded(8))
    divergence = law.log_prob(test) - flow.log_prob(test)
    assert abs(float(divergence.mean())) < 0.02
    draws = flow.sample(4000, generator=_seeded(9))
    torch.testing.assert_close(draws.mean(0), law.mean, rtol=0, atol=0.15)
    torch.testing.assert_close(draws.T.cov(), x.T.cov(), rtol=0.15, atol=0.05)


def test_splines_find_two_moons_better_than_a_normal() -> None:
    law = toy_density("moons")
    x, test = law.sample(4000, generator=_seeded(1)), law.sample(4000, generator=_seeded(2))
    flow = fit_flow(x, kind="nsf", transforms=2, width=32, steps=400, lr=5e-3)
    assert flow.log_prob(x).dtype == torch.float32
    truth, normal = law.log_prob(test).mean(), Gaussian.fit(x).log_prob(test).mean()
    assert float(truth - flow.log_prob(test).mean()) < 0.3 * float(truth - normal)


def test_the_seed_decides_the_fit_and_the_global_generator_does_not() -> None:
    x, _ = _correlated(300)
    options = {**QUICK, "steps": 5}
    before = torch.get_rng_state()
    one = fit_flow(x, seed=1, **options)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    again, other = fit_flow(x, seed=1, **options), fit_flow(x, seed=2, **options)
    assert torch.equal(one(x), again(x))
    assert not torch.equal(one(x), other(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_comes_back_is_ready_to_use(dtype: torch.dtype) -> None:
    x, _ = _correlated(40, dtype)  # fewer rows than a batch
    kept = x.clone()
    flow = fit_flow(x, **{**QUICK, "steps": 3})
    assert isinstance(flow, Flow)
    assert not flow.training
    assert not any(p.requires_grad for p in flow.parameters())
    assert flow.sample(2).dtype == dtype
    assert flow.coordinates.loc.dtype == torch.float64
    assert torch.equal(x, kept)
    assert not x.requires_grad


def test_held_out_rows_choose_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows and a wide flow overfit: the choice by held-out rows is the better one on fresh rows."""
    made: list[HeldOut] = []

    class Watched(HeldOut):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            made.append(self)

    monkeypatch.setattr("chainfree.fitting.flow.HeldOut", Watched)
    x, law = _correlated(60)
    test = law.sample(2000, generator=_seeded(8))
    options = {**QUICK, "width": 64, "ema": 0.9}
    chosen = fit_flow(x, held_out=0.3, every=10, patience=5, **options)
    assert made[0].best_step < options["steps"]
    last = fit_flow(x, held_out=0.0, **options)
    assert len(made) == 1
    assert float(chosen.log_prob(test).mean()) > float(last.log_prob(test).mean()) + 0.1


def test_heavy_tails_are_bent_on_request() -> None:
    x = torch.distributions.StudentT(2.0).sample((3000, 1)).double()
    options = {**QUICK, "steps": 2}
    assert not bool(fit_flow(x, **options).coordinates.heavy.any())
    assert bool(fit_flow(x, heavy_tails=True, **options).coordinates.heavy.all())


def test_an_interruption_is_not_taken_for_a_fit() -> None:
    x, _ = _correlated(100)
    previous = signal.getsignal(signal.SIGALRM)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(KeyboardInterrupt, match="SIGINT at step"):
            fit_flow(x, **{**QUICK, "steps": 100_000, "held_out": 0.0})
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dim": 0}, "dim must be a whole number above 0"),
        ({"kind": "nice"}, "kind must be one of nsf, nsf-coupling, maf, realnvp, got 'nice'"),
        ({"bins": 0}, "bins must"),
        ({"activation": "sine"}, "activation must be one of"),
        ({"coordinates": Coordinates(3)}, "coordinates are of 3 features, the flow of 2"),
    ],
)
def test_options_are_checked_when_it_is_made(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Flow(**{"dim": 2, **options})


@pytest.mark.parametrize(
    ("x", "options", "words"),
    [
        (torch.zeros(20), {}, r"floats of shape \(N, dim\), got torch.float32 of shape \(20,\)"),
        (torch.zeros(20, 2, dtype=torch.int64), {}, "got torch.int64"),
        (torch.full((20, 2), math.nan), {}, "x has NaN or infinite values in 20 of 20 rows"),
        (torch.zeros(20, 2), {}, "constant features have no density: 0, 1"),
        (torch.randn(5, 2), {}, "rows are too few"),
        (torch.randn(0, 2), {}, "rows are too few"),
        (torch.randn(20, 2), {"held_out": 1.0}, "held_out must be a number in"),
        (torch.randn(20, 2), {"batch": 0}, "batch must be a whole number above 0"),
        (torch.randn(20, 2), {"steps": 0}, "steps must be a whole number above 0"),
        (torch.randn(20, 2), {"patience": 0}, "patience must be"),
    ],
)
def test_a_fit_says_what_it_cannot_use(x: Tensor, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        fit_flow(x, **options)


def test_without_zuko_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zuko", None)
    with pytest.raises(ImportError, match=r"^zuko is missing: pip install 'chainfree\[flows\]'$"):
        flows.Flow(2)
