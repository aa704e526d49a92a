"""Kernels of pairs: the law of the copies, and the ratio that goes with it."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from chainfree.energies import Gaussian
from chainfree.perturbations import JumpPairs, LocalPairs


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_local_pairs_are_normal_and_symmetric() -> None:
    x = torch.full((20_000, 2), 3.0, dtype=torch.float64)
    y, log_ratio = LocalPairs(scale=0.4).draw(x, 2, generator=_seeded())
    assert y.shape == (2, 20_000, 2) and log_ratio.shape == () and float(log_ratio) == 0
    assert stats.kstest(((y - x) / 0.4).flatten().numpy(), "norm").pvalue > 1e-3


def test_a_spread_of_scales_stays_between_its_ends() -> None:
    x = torch.zeros(50_000, 400, dtype=torch.float64)[:500]
    y, _ = LocalPairs(scale=0.1, spread=10.0).draw(x, 1, generator=_seeded())
    widths = y[0].std(1)
    assert float(widths.min()) > 0.09 and float(widths.max()) < 1.1
    assert float(widths.log().mean()) == pytest.approx(0.5 * (math.log(0.1) + math.log(1.0)), abs=0.1)


def test_jumps_have_the_law_and_the_ratio_of_the_mixture() -> None:
    wide = Gaussian(torch.tensor([1.0], dtype=torch.float64), 9 * torch.eye(1, dtype=torch.float64))
    kernel = JumpPairs(jump=wide, share=0.3, scale=0.2)
    x = torch.full((50_000, 1), -2.0, dtype=torch.float64)
    y, log_ratio = kernel.draw(x, 1, generator=_seeded())

    def density(to: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
        local = stats.norm.pdf(to, start, 0.2)
        return torch.as_tensor(0.7 * local + 0.3 * stats.norm.pdf(to, 1.0, 3.0))

    law = lambda v: 0.7 * stats.norm.cdf(v, -2.0, 0.2) + 0.3 * stats.norm.cdf(v, 1.0, 3.0)  # noqa: E731
    assert stats.kstest(y.flatten().numpy(), law).pvalue > 1e-3
    expected = density(y[0, :, 0], x[:, 0]).log() - density(x[:, 0], y[0, :, 0]).log()
    torch.testing.assert_close(log_ratio[0], expected)


@pytest.mark.parametrize("share", [0.0, 1.0, math.nan])
def test_settings_are_checked(share: float) -> None:
    with pytest.raises(ValueError, match="share must be between 0 and 1"):
        JumpPairs(jump=Gaussian([0.0]), share=share)
    with pytest.raises(ValueError, match="scale"):
        JumpPairs(jump=Gaussian([0.0]), scale=0.0)
    with pytest.raises(ValueError, match="scale"):
        LocalPairs(scale=-1.0)
    with pytest.raises(ValueError, match="at least 1"):
        LocalPairs(spread=0.9)
