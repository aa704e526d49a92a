"""Densities of columns by themselves against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from chainfree.energies import TabularMarginals

# a number, three categories, a number that may be hidden in two ways
COLUMNS, STATES = [None, 3, None, 3], {2: 3}


def _marginals() -> TabularMarginals:
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return (
        TabularMarginals(COLUMNS, components=4, states=STATES)
        .double()
        .set_(weights=drawn(2, 4).exp(), means=2 * drawn(2, 4), scales=drawn(2, 4).exp(), shares=drawn(6).exp())
    )


def _of_number(marginals: TabularMarginals, row: int, values: np.ndarray) -> np.ndarray:
    parts = [
        float(marginals.log_weights[row, k].exp())
        * stats.norm(float(marginals.means[row, k]), float(marginals.scales[row, k])).pdf(values)
        for k in range(4)
    ]
    return np.sum(parts, 0)


def test_the_density_is_that_of_scipy() -> None:
    marginals = _marginals()
    x = marginals.sample(200, generator=torch.Generator().manual_seed(1))
    shares, codes = marginals.log_shares.exp().numpy(), x.long().numpy()
    assert shares[:3].sum() == pytest.approx(1) and shares[3:].sum() == pytest.approx(1)
    shown = _of_number(marginals, 1, x[:, 2].numpy())
    third = np.where(codes[:, 3] == 0, shown, stats.norm.pdf(x[:, 2].numpy()))
    truth = _of_number(marginals, 0, x[:, 0].numpy()) * shares[codes[:, 1]] * third * shares[3 + codes[:, 3]]
    torch.testing.assert_close(marginals.log_prob(x), torch.from_numpy(np.log(truth)))
    assert marginals.log_z == 0.0
    torch.testing.assert_close(marginals.by_column(x).sum(1), marginals(x))
    np.testing.assert_allclose(marginals.by_column(x)[:, 1].numpy(), -np.log(shares[codes[:, 1]]))


def test_draws_follow_the_density() -> None:
    marginals = _marginals()
    x = marginals.sample(20_000, generator=torch.Generator().manual_seed(2))
    grid = np.linspace(-40, 40, 40_001)
    cumulated = np.cumsum(_of_number(marginals, 0, grid)) * (grid[1] - grid[0])
    assert stats.kstest(x[:, 0].numpy(), lambda v: np.interp(v, grid, cumulated)).pvalue > 1e-4
    assert stats.kstest(x[x[:, 3] != 0, 2].numpy(), "norm").pvalue > 1e-4
    counts = torch.bincount(x[:, 1].long(), minlength=3).numpy()
    assert stats.chisquare(counts, 20_000 * marginals.log_shares[:3].exp().numpy()).pvalue > 1e-4
    assert marginals.sample(0).shape == (0, 4)


def test_many_rows_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    marginals = _marginals()
    x = marginals.sample(50, generator=torch.Generator().manual_seed(3))
    whole = marginals(x)
    monkeypatch.setattr("chainfree.energies.tabular_marginals._MOST_ENTRIES", 17)
    torch.testing.assert_close(marginals(x), whole)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="columns is empty"):
        TabularMarginals([], components=2)
    with pytest.raises(ValueError, match="components must be a whole number above 0"):
        TabularMarginals([None], components=0)
    marginals = TabularMarginals([None], components=1)
    one = torch.ones(1, 1)
    with pytest.raises(ValueError, match="standard deviations must be positive"):
        marginals.set_(weights=one, means=one, scales=0 * one, shares=torch.zeros(0))
