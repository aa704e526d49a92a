"""Weighted draws of a tilted base against what they should be in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from chainfree.energies import Gaussian, TabularMixture, Tilted
from chainfree.samplers import sample_tilted, sample_tilted_given, weighted_given


class _Slope(nn.Module):
    """f(x) = -a x_0 - b [x_1 = 1]: tilts a normal's mean by a, and odds by e^b."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        of_code = x[:, 1] if x.shape[1] > 1 else torch.zeros(len(x))
        return -0.8 * x[:, 0] - math.log(3.0) * of_code + 0 * self.layer(x[:, :1]).squeeze(1)


def _energy() -> Tilted:
    """A standard normal and an even coin of their own."""
    return Tilted(TabularMixture([None, 2], components=1), _Slope())


def test_draws_have_the_tilted_mean_and_odds() -> None:
    drawn = sample_tilted(_energy(), 20_000, proposals=256, generator=torch.Generator().manual_seed(0))
    assert drawn.x.shape == (20_000, 2)
    assert float(drawn.x[:, 0].mean()) == pytest.approx(0.8, abs=0.04)
    assert float(drawn.x[:, 0].var()) == pytest.approx(1.0, abs=0.06)
    assert float(drawn.x[:, 1].mean()) == pytest.approx(0.75, abs=0.02)
    # of weights e^(0.8 x) 3^coin the share (E w)^2 / E w^2 counts, in the limit
    share = math.exp(-0.64) * ((1 + 3) / 2) ** 2 / ((1 + 9) / 2)
    assert float(drawn.effective_proposals.mean() / 256) == pytest.approx(share, rel=0.1)
    again = sample_tilted(_energy(), 20_000, proposals=256, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again.x, drawn.x)
    assert sample_tilted(_energy(), 0).x.shape == (0, 2)


def test_one_proposal_is_the_base() -> None:
    drawn = sample_tilted(_energy(), 20_000, proposals=1, generator=torch.Generator().manual_seed(0))
    assert float(drawn.x[:, 0].mean()) == pytest.approx(0.0, abs=0.03)
    assert (drawn.effective_proposals == 1).all()


def test_what_is_fixed_stays_and_the_rest_is_tilted() -> None:
    rows = torch.tensor([[-1.0, 0.0]]).repeat(8000, 1)
    fixed = torch.tensor([True, False]).repeat(8000, 1)
    drawn = sample_tilted_given(_energy(), rows, fixed, proposals=64, generator=torch.Generator().manual_seed(0)).x
    assert (drawn[:, 0] == -1).all() and float(drawn[:, 1].mean()) == pytest.approx(0.75, abs=0.03)
    drawn = sample_tilted_given(_energy(), rows, ~fixed, proposals=64, generator=torch.Generator().manual_seed(0)).x
    assert (drawn[:, 1] == 0).all() and float(drawn[:, 0].mean()) == pytest.approx(0.8, abs=0.05)


def test_weighted_means_are_those_of_the_tilt() -> None:
    rows = torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    fixed = torch.tensor([[False, True], [False, True]])
    parts = list(weighted_given(_energy(), rows, fixed, proposals=20_000, generator=torch.Generator().manual_seed(0)))
    means = torch.cat([(part.weights * part.x[:, :, 0]).sum(1) for part in parts])
    torch.testing.assert_close(means, torch.full((2,), 0.8, dtype=means.dtype), atol=0.05, rtol=0)
    assert torch.cat([part.weights.sum(1) for part in parts]).tolist() == pytest.approx([1.0, 1.0])


def test_refusals() -> None:
    with pytest.raises(ValueError, match="proposals must be a whole number above 0, got 0"):
        sample_tilted(_energy(), 3, proposals=0)
    plain = Tilted(Gaussian([0.0]), _Slope())
    with pytest.raises(
        TypeError,
        match=r"a Gaussian has no sample_given.* tilt a TabularMixture",
    ):
        sample_tilted_given(plain, torch.zeros(2, 1), torch.zeros(2, 1, dtype=torch.bool))
    wild = _energy()
    with torch.no_grad():
        wild.network.get_submodule("layer").weight.fill_(torch.inf)
    with pytest.raises(ValueError, match="the tilt is not finite on draws of its base"):
        sample_tilted(wild, 3)


def test_gradients_stay_on_for_whoever_asks() -> None:
    parts = weighted_given(_energy(), torch.zeros(2, 2), torch.zeros(2, 2, dtype=torch.bool), proposals=4)
    next(parts)
    assert torch.is_grad_enabled()
