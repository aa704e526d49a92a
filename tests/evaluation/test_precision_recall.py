"""Precision, recall, density and coverage against double loops and constructed cases."""

from __future__ import annotations

import importlib
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from chainfree.evaluation import density_coverage, precision_recall


def normals(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def inside(centres: Tensor, points: Tensor, k: int) -> Tensor:
    """Whether each ball, down, holds each point, across; by loops."""
    table = torch.zeros(len(centres), len(points), dtype=torch.bool)
    for i, centre in enumerate(centres):
        others = sorted(math.dist(centre, c) for j, c in enumerate(centres) if j != i)
        for j, point in enumerate(points):
            table[i, j] = math.dist(centre, point) <= others[k - 1]
    return table


@pytest.mark.parametrize("k", [1, 3, 5])
def test_they_are_the_shares_of_rows_in_balls(k: int) -> None:
    data, samples = normals(30, 3, seed=0), 0.7 * normals(25, 3, seed=1) + 0.5
    held = inside(data, samples, k)
    precision, recall = precision_recall(data, samples, neighbors=k)
    assert precision == pytest.approx(float(held.any(0).double().mean()))
    assert recall == pytest.approx(float(inside(samples, data, k).any(0).double().mean()))
    density, coverage = density_coverage(data, samples, neighbors=k)
    assert density == pytest.approx(float(held.double().sum()) / (k * 25))
    assert coverage == pytest.approx(float(held.any(1).double().mean()))


def test_a_missing_mode_costs_recall_and_an_invented_one_precision() -> None:
    left, right = normals(200, 2, seed=0), normals(200, 2, seed=1) + 50
    both = torch.cat([left, right])
    fresh = normals(200, 2, seed=2)
    missing, invented = precision_recall(both, fresh), precision_recall(fresh, both)
    assert missing.precision > 0.9
    assert 0.4 < missing.recall < 0.5
    assert (invented.precision, invented.recall) == (missing.recall, missing.precision)
    assert 0.4 < density_coverage(both, fresh).coverage < 0.5


def test_samples_far_away_have_none_and_copies_have_all() -> None:
    data = normals(50, 2, seed=0)
    assert precision_recall(data, data + 100) == (0.0, 0.0)
    assert density_coverage(data, data + 100) == (0.0, 0.0)
    assert precision_recall(data, data.clone()) == (1.0, 1.0)
    assert density_coverage(data, data.clone()).coverage == 1.0


def test_samples_of_the_datas_law_have_a_density_of_one() -> None:
    density, coverage = density_coverage(normals(2000, 2, seed=0), normals(2000, 2, seed=1), neighbors=5)
    assert density == pytest.approx(1.0, abs=0.05)
    # a ball of k neighbours misses all of as many samples with probability about 2^-k
    assert coverage == pytest.approx(1 - 2.0**-5, abs=0.015)


def test_an_outlier_in_the_data_forgives_precision_and_not_density() -> None:
    data = torch.cat([normals(100, 2, seed=0), torch.tensor([[60.0, 0.0]])])
    wrong = normals(100, 2, seed=1) + torch.tensor([20.0, 0.0])
    assert precision_recall(data, wrong, neighbors=3).precision == 1.0
    assert density_coverage(data, wrong, neighbors=3).density < 0.5


def test_copies_of_repeated_rows_are_at_distance_zero_far_from_the_origin() -> None:
    data = (normals(10, 3, seed=0) + 1e4).repeat(4, 1)
    assert precision_recall(data, data.clone(), neighbors=3) == (1.0, 1.0)


def test_portions_and_the_callers_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    data, samples = normals(300, 1, 2, seed=0), normals(500, 1, 2, seed=1)
    before = data.clone(), samples.clone()
    whole = precision_recall(data, samples), density_coverage(data, samples)
    module = importlib.import_module("chainfree.evaluation.precision_recall")
    monkeypatch.setattr(module, "_MEBIBYTES", 0.1)
    assert (precision_recall(data, samples), density_coverage(data, samples)) == whole
    assert torch.equal(data, before[0])
    assert torch.equal(samples, before[1])


@pytest.mark.parametrize("method", [precision_recall, density_coverage])
@pytest.mark.parametrize(
    ("data", "samples", "neighbors", "words"),
    [
        (torch.zeros(9, 2), torch.zeros(9, 3), 3, "rows of one shape"),
        (torch.zeros(3, 2), torch.zeros(9, 2), 3, "data must have at least 4 rows, got 3"),
        (torch.zeros(9, 2), torch.zeros(3, 2), 3, "samples must have at least 4 rows, got 3"),
        (torch.zeros(9, 2), torch.full((9, 2), torch.nan), 3, "samples has NaN"),
        (torch.zeros(9, 2), torch.zeros(9, 2), 0, "neighbors must be a whole number above 0"),
    ],
)
def test_they_refuse(method: Any, data: Tensor, samples: Tensor, neighbors: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        method(data, samples, neighbors=neighbors)
