"""Gaussian perturbation against scipy's normal and uniform laws."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from chainfree.perturbations import Gaussian, LogUniform, Perturbed


@pytest.mark.parametrize("t", [0.25, 4.0])
def test_both_noises_are_normal_with_variance_t(t: float, generator: torch.Generator) -> None:
    x = torch.full((5000, 2), 3.0, dtype=torch.float64)
    perturbed = Gaussian(t=t).perturb(x, generator=generator)
    out = (perturbed.y - x).flatten().numpy()
    assert stats.kstest(out, stats.norm(0, math.sqrt(t)).cdf).pvalue > 1e-3
    assert out.var() == pytest.approx(t, rel=0.06)
    back = (Gaussian(t=t).recover(perturbed, 3, generator=generator) - perturbed.y).flatten().numpy()
    assert stats.kstest(back, stats.norm(0, math.sqrt(t)).cdf).pvalue > 1e-3
    assert back.var() == pytest.approx(t, rel=0.04)


def test_each_feature_has_its_own_variance(generator: torch.Generator) -> None:
    t = (0.01, 1.0, 25.0)
    x = torch.zeros(20_000, 3, dtype=torch.float64)
    perturbed = Gaussian(t=t).perturb(x, generator=generator)
    recovered = Gaussian(t=t).recover(perturbed, 1, generator=generator)[0]
    for k, variance in enumerate(t):
        deviation = math.sqrt(variance)
        assert stats.kstest(perturbed.y[:, k].numpy(), stats.norm(0, deviation).cdf).pvalue > 1e-3
        assert stats.kstest((recovered - perturbed.y)[:, k].numpy(), stats.norm(0, deviation).cdf).pvalue > 1e-3


def test_variances_per_feature_must_fit_the_data() -> None:
    with pytest.raises(ValueError, match=r"t has 3 entries but the data have event shape \(2,\)"):
        Gaussian(t=(1.0, 2.0, 3.0)).perturb(torch.zeros(4, 2))


def test_log_variances_are_uniform(generator: torch.Generator) -> None:
    low, high = 1e-3, 10.0
    t = LogUniform(low=low, high=high).draw(20_000, torch.zeros(1, dtype=torch.float64), generator)
    assert t.shape == (20_000,)
    assert float(t.min()) >= low
    assert float(t.max()) <= high
    assert stats.kstest(t.numpy(), stats.loguniform(low, high).cdf).pvalue > 1e-3


def test_every_datum_keeps_its_own_variance_in_both_directions(generator: torch.Generator) -> None:
    perturbation = Gaussian(t=LogUniform(low=1e-4, high=100.0))
    x = torch.zeros(400, 3, 8, dtype=torch.float64)
    perturbed = perturbation.perturb(x, generator=generator)
    assert perturbed.scale is not None
    assert perturbed.scale.shape == (400, 1, 1)
    assert stats.kstest(perturbed.scale.square().flatten().numpy(), stats.loguniform(1e-4, 100.0).cdf).pvalue > 1e-3

    recovered = perturbation.recover(perturbed, 40, generator=generator)
    out = perturbed.y / perturbed.scale
    back = (recovered - perturbed.y) / perturbed.scale
    for noise in (out, back):
        assert stats.kstest(noise.flatten().numpy()[:20_000], "norm").pvalue > 1e-3
    # the spread of each datum's own draws, with no use of `scale`: 960 numbers know it to within a few percent
    spread = (recovered - perturbed.y).permute(1, 0, 2, 3).reshape(400, -1).std(1)
    np.testing.assert_allclose(spread / perturbed.scale.flatten(), 1.0, atol=0.12)


def test_a_range_of_one_point_is_a_number() -> None:
    t = LogUniform(low=0.3, high=0.3).draw(5, torch.zeros(1, dtype=torch.float64), None)
    torch.testing.assert_close(t, torch.full((5,), 0.3, dtype=torch.float64))


def test_a_scale_of_the_caller_s_own_is_used(generator: torch.Generator) -> None:
    scale = torch.tensor([[0.0], [2.0]])
    recovered = Gaussian().recover(Perturbed(torch.ones(2, 1), scale), 5000, generator=generator)
    assert bool((recovered[:, 0] == 1).all())
    assert float(recovered[:, 1].std()) == pytest.approx(2.0, rel=0.05)


@pytest.mark.parametrize("t", [0.0, -1.0, math.inf, math.nan, True, None, (1.0, 0.0), [1.0, -2.0]])
def test_variances_that_are_none_are_refused(t: Any) -> None:
    with pytest.raises(ValueError, match="t must be a finite number above 0"):
        Gaussian(t=t)


def test_no_variances_at_all_are_refused() -> None:
    with pytest.raises(ValueError, match="t must"):
        Gaussian(t=())


@pytest.mark.parametrize(
    ("low", "high", "words"), [(0.0, 1.0, "low must"), (1.0, math.inf, "high must"), (2.0, 1.0, "low=2.0, high=1.0")]
)
def test_ranges_that_are_none_are_refused(low: float, high: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LogUniform(low=low, high=high)
