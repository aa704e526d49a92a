"""The maximum mean discrepancy against double loops and its closed form between normals."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from chainfree.evaluation import mmd, squared_mmd


def normals(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_loops(x: Tensor, y: Tensor, bandwidths: Sequence[float], unbiased: bool) -> float:
    def kernel(a: Tensor, b: Tensor) -> float:
        return float(np.mean([math.exp(-float((a - b).square().sum()) / (2 * h * h)) for h in bandwidths]))

    def within(rows: Tensor) -> float:
        n = len(rows)
        pairs = [kernel(rows[i], rows[j]) for i in range(n) for j in range(n) if i != j or not unbiased]
        return sum(pairs) / len(pairs)

    return within(x) + within(y) - 2 * float(np.mean([kernel(a, b) for a in x for b in y]))


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("bandwidths", [[0.7], [0.3, 1.0, 4.0]])
def test_it_is_the_sum_over_pairs(bandwidths: list[float], unbiased: bool) -> None:
    x, y = normals(13, 2, 2, seed=0), normals(9, 2, 2, seed=1) + 0.5
    found = squared_mmd(x, y, bandwidth=bandwidths, unbiased=unbiased)
    assert found == pytest.approx(by_loops(x, y, bandwidths, unbiased), abs=1e-12)


def test_one_bandwidth_may_be_a_number() -> None:
    x, y = normals(10, 2, seed=0), normals(12, 2, seed=1)
    assert squared_mmd(x, y, bandwidth=1.5) == squared_mmd(x, y, bandwidth=[1.5])


def test_the_default_is_a_half_one_and_two_medians_of_the_pooled_distances() -> None:
    x, y = normals(20, 3, seed=0), 2 * normals(15, 3, seed=1)
    pooled = torch.cat([x, y])
    median = float(np.median(torch.pdist(pooled).numpy()))
    assert squared_mmd(x, y) == pytest.approx(by_loops(x, y, [median / 2, median, 2 * median], True), abs=1e-12)


def test_between_normals_it_is_the_closed_form() -> None:
    # E k(x, y) of x - y ~ N(d, S) is det(I + S / h^2)^(-1/2) exp(-d' (S + h^2)^-1 d / 2); here S = 2 I
    h, shift, dim = 1.3, torch.tensor([1.0, -0.5, 0.0]), 3
    same = (h * h / (h * h + 2)) ** (dim / 2)
    truth = 2 * same * (1 - math.exp(-float(shift.square().sum()) / (2 * (h * h + 2))))
    repeats = [
        squared_mmd(normals(400, dim, seed=2 * s), normals(400, dim, seed=2 * s + 1) + shift, bandwidth=h)
        for s in range(20)
    ]
    error = float(np.std(repeats, ddof=1)) / math.sqrt(len(repeats))
    assert error < 0.05 * truth
    assert abs(float(np.mean(repeats)) - truth) < 4 * error


def test_equal_laws_are_at_zero_on_average_and_the_biased_one_is_above() -> None:
    pairs = [(normals(50, 2, seed=2 * s), normals(50, 2, seed=2 * s + 1)) for s in range(100)]
    unbiased = np.array([squared_mmd(x, y, bandwidth=1.0) for x, y in pairs])
    assert abs(unbiased.mean()) < 4 * unbiased.std(ddof=1) / 10
    assert (unbiased < 0).any()
    assert min(squared_mmd(x, y, bandwidth=1.0, unbiased=False) for x, y in pairs) > 0


def test_many_portions_give_what_one_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = normals(300, 2, seed=0), normals(500, 2, seed=1)
    whole = squared_mmd(x, y, bandwidth=1.0)
    seen = []
    chunked = mmd.pairwise_distances_chunked  # type: ignore[attr-defined]

    def counted(*rows: np.ndarray, **options: object):  # type: ignore[no-untyped-def]
        for part in chunked(*rows, **(options | {"working_memory": 0.1})):
            seen.append(len(part))
            yield part

    monkeypatch.setattr("chainfree.evaluation.mmd.pairwise_distances_chunked", counted)
    assert squared_mmd(x, y, bandwidth=1.0) == pytest.approx(whole, abs=1e-12)
    assert len(seen) > 10
    assert sum(seen) == 300 + 300 + 500


def test_far_from_the_origin_nothing_cancels() -> None:
    x, y = normals(30, 2, seed=0), normals(30, 2, seed=1)
    assert squared_mmd(x + 1e7, y + 1e7, bandwidth=1.0) == pytest.approx(squared_mmd(x, y, bandwidth=1.0), abs=1e-6)


def test_the_callers_tensors_stay() -> None:
    x, y = normals(10, 2, seed=0).requires_grad_(), normals(10, 2, seed=1)
    before = x.detach().clone(), y.clone()
    squared_mmd(x, y)
    assert torch.equal(x.detach(), before[0])
    assert torch.equal(y, before[1])


@pytest.mark.parametrize(
    ("x", "y", "bandwidth", "words"),
    [
        (torch.zeros(3, 2), torch.zeros(3, 3), 1.0, "rows of one shape"),
        (torch.zeros(1, 2), torch.zeros(3, 2), 1.0, "x must have at least 2 rows, got 1"),
        (torch.zeros(3, 2), torch.full((3, 2), math.nan), 1.0, "y has NaN"),
        (torch.zeros(3), torch.zeros(3), 1.0, "floats of shape"),
        (torch.zeros(3, 2, dtype=torch.long), torch.zeros(3, 2, dtype=torch.long), 1.0, "floats of shape"),
        (torch.zeros(3, 2), torch.zeros(3, 2), None, "median distance of the rows is 0"),
        (torch.zeros(3, 2), torch.zeros(3, 2), 0.0, "bandwidth must be a finite number above 0"),
        (torch.zeros(3, 2), torch.zeros(3, 2), [1.0, -1.0], "bandwidth must be a finite number above 0"),
        (torch.zeros(3, 2), torch.zeros(3, 2), [], "at least one width"),
    ],
)
def test_it_refuses(x: Tensor, y: Tensor, bandwidth: float | list[float] | None, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        squared_mmd(x, y, bandwidth=bandwidth)
