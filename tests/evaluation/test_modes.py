"""Mode coverage against scipy, closed forms and a nearest-neighbour tree."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial import cKDTree

from chainfree.datasets import stacked_classes, toy_density
from chainfree.evaluation import ModeCoverage, mixture_modes, mode_coverage


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 30), st.integers(1, 200), st.integers(0, 2**32), st.booleans())
def test_it_is_scipy_s_relative_entropy(classes: int, n: int, seed: int, given_reference: bool) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    data = rng.dirichlet(np.ones(classes)) if given_reference else np.full(classes, 1 / classes)
    counts = np.bincount(labels, minlength=classes)
    found = mode_coverage(labels, classes, data if given_reference else None)
    assert found.modes == len(set(labels.tolist()))
    assert found.kl == pytest.approx(stats.entropy(counts, data), rel=1e-9, abs=1e-12)
    assert mode_coverage(torch.from_numpy(labels), classes, torch.from_numpy(data)).kl == pytest.approx(found.kl)


def test_the_direction_is_from_samples_to_data() -> None:
    """Samples in one of K equal classes are log K away; the other direction would be infinite."""
    assert mode_coverage(torch.zeros(50, dtype=torch.long), 1000) == ModeCoverage(1, pytest.approx(math.log(1000)))
    shares = np.array([0.9, 0.1])
    found = mode_coverage(np.array([0, 1]), 2, shares)
    assert found.kl == pytest.approx(stats.entropy([0.5, 0.5], shares))
    assert found.kl != pytest.approx(stats.entropy(shares, [0.5, 0.5]), rel=0.1)


def test_all_modes_in_the_right_shares() -> None:
    assert mode_coverage(np.repeat(np.arange(1000), 3), 1000) == ModeCoverage(1000, pytest.approx(0.0, abs=1e-12))
    counts = torch.tensor([2, 0, 6])  # counts serve as a reference too
    assert mode_coverage(torch.tensor([0, 2, 2, 2]), 3, counts).kl == pytest.approx(0.0, abs=1e-12)


def test_a_class_that_the_data_never_show_is_infinitely_far() -> None:
    assert mode_coverage(torch.tensor([0, 1]), 2, np.array([1.0, 0.0])) == ModeCoverage(2, math.inf)


def test_samples_of_the_data_have_the_bias_that_is_told() -> None:
    rng = np.random.default_rng(0)
    found = np.mean([mode_coverage(rng.integers(0, 1000, 26_000), 1000).kl for _ in range(20)])
    assert found == pytest.approx(999 / 52_000, rel=0.05)


def test_channels_in_another_order_are_other_classes() -> None:
    """Each channel has its own law of digits; numbered alike the samples match the data, permuted they do not."""
    rng = np.random.default_rng(3)
    laws = [rng.dirichlet(np.full(10, 0.5)) + 0.01 for _ in range(3)]
    laws = [law / law.sum() for law in laws]
    reference = np.zeros(1000)
    for a, b, c in itertools.product(range(10), repeat=3):
        reference[int(f"{a}{b}{c}")] = laws[0][a] * laws[1][b] * laws[2][c]
    digits = torch.from_numpy(np.stack([rng.choice(10, 50_000, p=law) for law in laws], axis=1))
    assert mode_coverage(stacked_classes(digits), 1000, reference).kl < 0.02
    for order in itertools.permutations(range(3)):
        if order != (0, 1, 2):
            assert mode_coverage(stacked_classes(digits[:, list(order)]), 1000, reference).kl > 0.2


@pytest.mark.parametrize(
    ("labels", "classes", "reference", "words"),
    [
        ([], 3, None, "whole numbers"),
        ([0.0, 1.0], 3, None, "whole numbers"),
        ([True, False], 3, None, "whole numbers"),
        ([[0, 1]], 3, None, "whole numbers"),
        ([0, 3], 3, None, "0 to 2, got 0 to 3"),
        ([-1, 0], 3, None, "0 to 2, got -1 to 0"),
        ([0], 0, None, "classes must be"),
        ([0, 1], 3, [0.5, 0.5], "one entry for each of 3"),
        ([0, 1], 2, [0.0, 0.0], "not all 0"),
        ([0, 1], 2, [1.5, -0.5], "at least 0"),
        ([0, 1], 2, [math.nan, 0.5], "finite"),
        ([0, 1], 2, [math.inf, 0.5], "finite"),
    ],
)
def test_unusable_labels_and_references_are_refused(labels: Any, classes: int, reference: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        mode_coverage(np.array(labels), classes, None if reference is None else np.array(reference))


GRID = toy_density("25gaussians")
MEANS, STD = GRID.means, 0.2 / 1.414  # type: ignore[attr-defined]


def test_exact_samples_of_25_gaussians(generator: torch.Generator) -> None:
    x = GRID.sample(100_000, generator=generator)
    found = mixture_modes(x, MEANS, std=STD)
    assert found.covered == 25
    # the squared distance in units of the variance is chi-squared with two degrees of freedom
    assert found.within == pytest.approx(stats.chi2.cdf(9, 2), abs=1.5e-3)
    assert found.worst_relative_error == pytest.approx(float((found.shares * 25 - 1).abs().max()))
    assert found.worst_relative_error < 0.07  # 25 shares of 4,000 counts each: a standard deviation is 1.5 %
    two = mixture_modes(x, MEANS, std=STD, deviations=2.0)
    assert two.within == pytest.approx(stats.chi2.cdf(4, 2), abs=5e-3)


def test_the_assignment_is_that_of_a_tree(generator: torch.Generator) -> None:
    x = 3 * torch.randn(2000, 3, generator=generator)
    means = torch.randn(7, 3, generator=generator)
    distance, index = cKDTree(means.numpy()).query(x.numpy())
    found = mixture_modes(x, means, std=0.4, deviations=2.5)
    np.testing.assert_allclose(found.shares, np.bincount(index, minlength=7) / 2000, rtol=1e-12)
    assert found.within == pytest.approx((distance <= 1.0).mean())
    assert found.covered == len(set(index[distance <= 1.0]))
    assert 0 < found.within < 1


def test_a_mode_without_samples_and_strays() -> None:
    means = torch.tensor([[0.0], [10.0], [20.0], [30.0]])
    # a stray near 20 counts towards its share, and does not cover it
    found = mixture_modes(torch.tensor([[0.1], [-0.1], [10.2], [16.0]]), means, std=0.1)
    assert found.shares.tolist() == [0.5, 0.25, 0.25, 0.0]
    assert (found.covered, found.within, found.worst_relative_error) == (2, 0.75, 1.0)


def test_shares_are_compared_with_the_weights() -> None:
    means, x = torch.tensor([[0.0], [10.0]]), torch.tensor([[0.0], [10.0], [10.0], [10.0]])
    assert mixture_modes(x, means, std=1.0, weights=torch.tensor([1.0, 3.0])).worst_relative_error == 0.0
    # by hand: shares 0.25 and 0.75 against 0.2 and 0.8
    found = mixture_modes(x, means, std=1.0, weights=torch.tensor([0.2, 0.8])).worst_relative_error
    assert found == pytest.approx(0.25)
    assert mixture_modes(x, means, std=1.0).worst_relative_error == 0.5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": torch.zeros(3, 1)}, "same D"),
        ({"x": torch.zeros(0, 2)}, "at least one row"),
        ({"x": torch.zeros(2)}, "same D"),
        ({"x": torch.tensor([[0.0, math.nan]])}, "x has NaN"),
        ({"means": torch.tensor([[0.0, math.inf]])}, "means has NaN"),
        ({"std": 0.0}, "std must be"),
        ({"deviations": -1.0}, "deviations must be"),
        ({"weights": torch.ones(3)}, "one entry for each of 2"),
        ({"weights": torch.tensor([0.0, 1.0])}, "above 0"),
    ],
)
def test_unusable_samples_and_mixtures_are_refused(change: dict[str, Any], words: str) -> None:
    arguments: dict[str, Any] = {"x": torch.zeros(3, 2), "means": torch.eye(2), "std": 1.0} | change
    with pytest.raises(ValueError, match=words):
        mixture_modes(**arguments)
