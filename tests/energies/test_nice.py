"""The additive-coupling flow: it is a density, and the one its paper writes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from chainfree.energies import NICE

SHAPES: list[dict[str, Any]] = [
    {"dim": dim, "couplings": couplings, "base": base, "partition": partition}
    for dim in (2, 5)
    for couplings in (1, 4)
    for base in ("logistic", "normal")
    for partition in ("parity", "half")
]


def _flow(**options: Any) -> NICE:
    """With strong shifts and scales, in float64."""
    flow = NICE(**{"width": 16, "depth": 2, **options}).double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return flow


def _rows(n: int, dim: int) -> Tensor:
    return torch.randn(n, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("options", SHAPES, ids=str)
def test_inverse_and_transform_undo_each_other(options: dict[str, Any]) -> None:
    flow, x = _flow(**options), _rows(20, options["dim"])
    z = flow.transform(x)
    assert not torch.allclose(z, x)
    torch.testing.assert_close(flow.inverse(z), x, rtol=0, atol=1e-12)
    torch.testing.assert_close(flow.transform(flow.inverse(x)), x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", SHAPES, ids=str)
def test_the_density_is_scipy_s_base_times_autograd_s_jacobian(options: dict[str, Any]) -> None:
    flow, x = _flow(**options), _rows(6, options["dim"])
    jacobian: Any = torch.func.vmap(torch.func.jacrev(lambda row: flow.transform(row.unsqueeze(0))[0]))(x)
    law = stats.logistic if options["base"] == "logistic" else stats.norm
    log_base = torch.from_numpy(law.logpdf(flow.transform(x).detach().numpy()).sum(1))
    expected = log_base + torch.linalg.slogdet(jacobian).logabsdet
    torch.testing.assert_close(flow.log_prob(x), expected, rtol=1e-10, atol=1e-10)
    assert torch.equal(flow(x), -flow.log_prob(x))


@pytest.mark.parametrize("base", ["logistic", "normal"])
def test_it_integrates_to_one(base: str) -> None:
    flow = _flow(dim=2, base=base)
    # a grid around its own draws: log Z is a sum of cells
    draws = flow.sample(2000, generator=torch.Generator().manual_seed(2))
    low, high = draws.min(0).values - 25, draws.max(0).values + 25
    axes = [torch.linspace(float(a), float(b), 900, dtype=torch.float64) for a, b in zip(low, high, strict=True)]
    points = torch.cartesian_prod(*axes)
    with torch.no_grad():
        log_p = torch.cat([flow.log_prob(rows) for rows in points.split(100_000)])
    cell = math.prod(float(axis[1] - axis[0]) for axis in axes)
    assert float(log_p.exp().sum()) * cell == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(("base", "law"), [("logistic", stats.logistic), ("normal", stats.norm)])
def test_draws_have_the_base_s_law_in_the_base_s_space(base: str, law: Any) -> None:
    flow = _flow(dim=3, base=base)
    z = flow.transform(flow.sample(4000, generator=torch.Generator().manual_seed(4))).detach().numpy()
    for column in z.T:
        assert stats.kstest(column, law.cdf).pvalue > 1e-3
    assert abs(stats.spearmanr(z[:, 0], z[:, 1]).statistic) < 0.06


def test_draws_have_the_law_that_the_density_says() -> None:
    """E over draws of exp(-log p) on a box is the box's area: the density and the sampler agree."""
    flow = _flow(dim=2)
    draws = flow.sample(200_000, generator=torch.Generator().manual_seed(5))
    centre = draws.median(0).values
    inside = ((draws - centre).abs() < 1.0).all(dim=1)
    with torch.no_grad():
        weights = torch.where(inside, (-flow.log_prob(draws)).exp(), 0.0)
    error = float(weights.std()) / len(weights) ** 0.5
    assert error < 0.1
    assert float(weights.mean()) == pytest.approx(4.0, abs=4 * error)


def test_parity_and_half_move_what_they_say() -> None:
    for partition, still in [("parity", [0, 2, 4]), ("half", [0, 1, 2])]:
        flow = NICE(5, couplings=1, width=8, depth=1, partition=partition).double()  # type: ignore[arg-type]
        x = _rows(4, 5)
        jacobian: Any = torch.func.vmap(torch.func.jacrev(lambda z, f=flow: f.inverse(z.unsqueeze(0))[0]))(x)
        # features of the first part come out of the base's space untouched
        assert bool((jacobian[:, still].abs().sum(-1) == 1).all())
        moved = [i for i in range(5) if i not in still]
        assert bool((jacobian[:, moved].abs().sum(-1) > 1).all())


def test_the_logistic_base_has_its_curvature_at_zero_and_its_tails() -> None:
    flow = NICE(2, couplings=2, width=4, depth=1).double()
    for parameter in flow.parameters():
        nn.init.zeros_(parameter)
    x = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(flow(x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(gradient.sum(), x)
    torch.testing.assert_close(gradient.detach(), torch.zeros_like(gradient))
    torch.testing.assert_close(second, torch.full_like(second, 0.5))  # 2 s(0) s(-0)
    far = torch.tensor([[800.0, -800.0]], dtype=torch.float64)
    torch.testing.assert_close(flow(far), torch.tensor([1600.0], dtype=torch.float64))


def test_the_likelihood_has_no_slope_on_its_own_draws() -> None:
    """The derivative in the log-scale is mean(z tanh(z/2)) - 1 for logistic z, and zero on the flow's own draws."""
    flow = _flow(dim=2)
    x = flow.sample(100_000, generator=torch.Generator().manual_seed(6))
    (gradient,) = torch.autograd.grad(flow(x).mean(), flow.log_scale)
    assert float(gradient.abs().max()) < 0.02
    z = flow.transform(x).detach()
    torch.testing.assert_close(gradient, (z * torch.tanh(z / 2)).mean(0) - 1)


def test_bf16_couplings_leave_the_log_determinant_alone() -> None:
    flow = NICE(4, width=16, depth=1)
    x = torch.randn(32, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values = flow(x)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, flow(x), rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dim": 1}, "dim must be at least 2, got 1"),
        ({"dim": 3, "couplings": 0}, "couplings must be a whole number above 0"),
        ({"dim": 3, "base": "cauchy"}, "base must be one of logistic, normal, got 'cauchy'"),
        ({"dim": 3, "partition": "random"}, "partition must be one of parity, half"),
        ({"dim": 3, "activation": "sine"}, "activation must be one of"),
    ],
)
def test_options_are_checked_when_it_is_made(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        NICE(**options)
