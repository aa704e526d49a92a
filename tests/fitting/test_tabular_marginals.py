"""Bins of equal mass by hand, and against the density that made the rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from chainfree.fitting import fit_tabular_marginals


def test_bins_are_those_of_numpy() -> None:
    x = torch.randn(103, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64).exp()
    found = fit_tabular_marginals(x, [None], components=4, prior_rows=2.0, least_variance=0.01)
    bins = np.array_split(np.sort(x[:, 0].numpy()), 4)
    within = sum(part.var() * len(part) for part in bins) / 103
    variances = [(part.var() * len(part) + 2 * within) / (len(part) + 2) + 0.01 for part in bins]
    np.testing.assert_allclose(found.means[0], [part.mean() for part in bins], rtol=1e-6)
    np.testing.assert_allclose(found.scales[0].square(), variances, rtol=1e-5)
    np.testing.assert_allclose(found.log_weights[0].exp(), [len(part) / 103 for part in bins], rtol=1e-5)


def test_shares_have_a_row_more_in_equal_parts() -> None:
    rows = torch.tensor([[0.0], [0.0], [2.0]])
    found = fit_tabular_marginals(rows, [3])
    torch.testing.assert_close(found.log_shares.exp(), torch.tensor([7 / 12, 1 / 12, 4 / 12]))


def test_hidden_numbers_do_not_count() -> None:
    generator = torch.Generator().manual_seed(0)
    shown = 5 + torch.randn(200, generator=generator)
    rows = torch.stack([torch.cat([shown, torch.zeros(300)]), torch.cat([torch.zeros(200), torch.ones(300)])], 1)
    found = fit_tabular_marginals(rows, [None, 2], states={0: 1}, components=5)
    alone = fit_tabular_marginals(shown.unsqueeze(1), [None], components=5)
    torch.testing.assert_close(found.means, alone.means)
    torch.testing.assert_close(found.scales, alone.scales)


def test_a_number_that_no_row_shows_and_too_few_rows_for_bins() -> None:
    rows = torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    found = fit_tabular_marginals(rows, [None, 2], states={0: 1})
    assert found.components == 1
    assert bool(torch.isfinite(found(torch.tensor([[0.5, 0.0], [0.5, 1.0]]))).all())
    # fewer shown than bins
    rows = torch.zeros(40, 2)
    rows[3:, 1] = 1
    rows[:3, 0] = torch.tensor([1.0, 2.0, 3.0])
    found = fit_tabular_marginals(rows, [None, 2], states={0: 1})
    assert bool(torch.isfinite(found(rows)).all())


def test_a_density_of_two_peaks_is_found() -> None:
    source = np.random.default_rng(0)
    values = np.where(source.random(5000) < 0.3, source.normal(-2, 0.5, 5000), source.normal(1, 1, 5000))
    found = fit_tabular_marginals(torch.from_numpy(values).unsqueeze(1), [None])
    truth = 0.3 * stats.norm(-2, 0.5).pdf(values) + 0.7 * stats.norm(1, 1).pdf(values)
    new = torch.from_numpy(values).float().unsqueeze(1)
    # bins of equal mass are 0.03 nats from the truth, one normal 0.17
    assert float(np.log(truth).mean() - found.log_prob(new).mean()) < 0.05


def test_refusals() -> None:
    with pytest.raises(ValueError, match="fitted to rows, got none"):
        fit_tabular_marginals(torch.zeros(0, 1), [None])
    with pytest.raises(ValueError, match="column 0 has codes from 0 to 1, and others in its rows"):
        fit_tabular_marginals(torch.tensor([[2.0, 0.0]]), [2, 3])
    with pytest.raises(ValueError, match="prior_rows"):
        fit_tabular_marginals(torch.zeros(3, 1), [None], prior_rows=0.0)
    with pytest.raises(ValueError, match="rows"):
        fit_tabular_marginals(torch.tensor([[float("nan")]]), [None])
