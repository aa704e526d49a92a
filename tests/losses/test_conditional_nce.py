"""Conditional NCE: which pairs see the weights of far modes."""

from __future__ import annotations

import pytest
import torch

from chainfree.energies import Gaussian, GaussianMixture
from chainfree.losses import ConditionalNCE
from chainfree.perturbations import JumpPairs, LocalPairs


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _slopes_in_the_weight(loss: ConditionalNCE, weight: float) -> float:
    """Of the loss in the weight of the left of two far modes, which is 0.2 in truth; its smallest value is there."""
    means = torch.tensor([[-5.0], [5.0]], dtype=torch.float64)
    data = GaussianMixture(means, 1.0, weights=[0.2, 0.8]).sample(40_000, generator=_seeded(1))

    def value(w: float) -> float:
        energy = GaussianMixture(means, 1.0, weights=[w, 1 - w])
        return float(loss(energy, data, generator=_seeded(2)).loss)

    return (value(weight + 0.02) - value(weight - 0.02)) / 0.04


def test_jumps_see_what_local_pairs_do_not() -> None:
    local = ConditionalNCE(pairs=LocalPairs(scale=0.5), draws=2)
    assert abs(_slopes_in_the_weight(local, 0.5)) < 1e-3
    wide = Gaussian(torch.zeros(1, dtype=torch.float64), 36 * torch.eye(1, dtype=torch.float64))
    jumps = ConditionalNCE(pairs=JumpPairs(jump=wide, scale=0.5), draws=2)
    assert _slopes_in_the_weight(jumps, 0.5) > 0.05
    assert _slopes_in_the_weight(jumps, 0.1) < -0.05
    assert abs(_slopes_in_the_weight(jumps, 0.2)) < 0.02


def test_the_mean_is_over_rows_and_draws() -> None:
    x = torch.randn(10, 2, generator=_seeded(), dtype=torch.float64)
    energy = lambda r: r.square().sum(1)  # noqa: E731
    pairs = LocalPairs(scale=0.7)
    y = pairs.draw(x, 4, generator=_seeded(3)).y
    expected = torch.stack([torch.log1p(torch.exp(energy(x) - energy(part))) for part in y]).mean()
    torch.testing.assert_close(ConditionalNCE(pairs=pairs, draws=4)(energy, x, generator=_seeded(3)).loss, expected)


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="draws must be a whole number above 0"):
        ConditionalNCE(draws=0)
