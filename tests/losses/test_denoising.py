"""Settings of denoising score matching; the mathematics is tested in tests/functional."""

from __future__ import annotations

import math

import pytest
import torch

from chainfree.losses import DenoisingScoreMatching, kurtosis_scales


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_scales_of_normal_features_are_their_spreads() -> None:
    x = torch.randn(100_000, 2, dtype=torch.float64, generator=_seeded()) * torch.tensor([1.0, 5.0])
    assert kurtosis_scales(x, 0.1) == pytest.approx((0.1, 0.5), rel=0.02)


def test_scales_of_heavy_tails_are_those_of_the_core() -> None:
    """Normals whose log-scale is normal with deviation tau: the median scale is 1, the spread exp(tau^2)."""
    tau = 0.4
    z = torch.randn(2, 2_000_000, dtype=torch.float64, generator=_seeded())
    x = (torch.exp(tau * z[0]) * z[1]).unsqueeze(1)
    assert kurtosis_scales(x, 0.1)[0] == pytest.approx(0.1, rel=0.03)
    assert kurtosis_scales(x, 0.1, power=0.0)[0] == pytest.approx(0.1 * math.exp(tau**2), rel=0.01)
    assert kurtosis_scales(x, 0.1, power=0.25)[0] > kurtosis_scales(x, 0.1, power=0.0)[0]


def test_many_scales_are_uniform_in_their_logarithm() -> None:
    loss = DenoisingScoreMatching(scale=0.1, spread=100.0, antithetic=False)
    scales = loss._scales(torch.zeros(100_000, 2), _seeded())
    assert scales.shape == (100_000, 1)
    logs = (scales / 0.1).log() / math.log(100.0)
    assert float(logs.min()) >= 0 and float(logs.max()) <= 1
    assert float(logs.mean()) == pytest.approx(0.5, abs=0.01) and float(logs.var()) == pytest.approx(1 / 12, rel=0.02)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scale": 0.0}, "scale must be a finite number above 0"),
        ({"scale": (0.1, -1.0)}, "scale must be a finite number above 0"),
        ({"spread": 0.5}, "at least 1"),
        ({"spread": math.nan}, "at least 1"),
        ({"target_scale": 0.0}, "target_scale"),
    ],
)
def test_settings_are_checked(options: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DenoisingScoreMatching(**options)


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match="2 scales for rows of shape"):
        DenoisingScoreMatching(scale=(0.1, 0.2))(lambda r: r.sum(1), torch.zeros(4, 3))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (torch.zeros(4), "shape"),
        (torch.tensor([[0.0, 1.0], [0.0, 2.0]]), "feature 0 is constant"),
        (torch.full((1000, 1), 0.1, dtype=torch.float64), "feature 0 is constant"),
        (torch.tensor([[math.nan], [1.0]]), "NaN"),
    ],
)
def test_rows_without_a_kurtosis_are_refused(rows: torch.Tensor, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        kurtosis_scales(rows, 0.1)
