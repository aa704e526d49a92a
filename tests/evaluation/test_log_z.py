"""The mean of weights: its error with and without families, against repeats."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from chainfree.evaluation import LogZ
from chainfree.evaluation.log_z import bound_margin, log_mean_weight


def test_weights_in_families_have_the_error_of_the_families_sums() -> None:
    log_weights = torch.tensor([0.0, 1.0, -0.5, 0.3, 2.0, -1.0], dtype=torch.float64)
    families = torch.tensor([0, 0, 2, 2, 2, 5])
    found = log_mean_weight(log_weights, families=families)
    weights = log_weights.exp().numpy()
    sums = np.array([weights[:2].sum(), 0, weights[2:5].sum(), 0, 0, weights[5]])
    assert found.value == pytest.approx(math.log(weights.mean()))
    assert found.standard_error == pytest.approx(sums.std(ddof=1) / math.sqrt(6) / sums.mean())
    assert found.effective_sample_size == pytest.approx(sums.sum() ** 2 / (sums**2).sum())


def test_every_chain_its_own_family_is_no_family() -> None:
    log_weights = torch.randn(50, generator=torch.Generator().manual_seed(0))
    assert log_mean_weight(log_weights, families=torch.arange(50)) == log_mean_weight(log_weights)


@pytest.mark.parametrize("bad", [[math.nan, 0.0], [math.inf, 0.0], [-math.inf, -math.inf]])
def test_weights_that_are_none_are_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="weights are NaN, infinite or all zero"):
        log_mean_weight(torch.tensor(bad))


def test_a_bound_goes_three_errors_or_where_they_say_nothing_three_nats_beyond_the_estimate() -> None:
    assert bound_margin(LogZ(2.0, 0.1, 50.0)) == pytest.approx(0.3, abs=1e-5)
    assert bound_margin(LogZ(2.0, 0.1, 49.0)) == pytest.approx(3.0)
    assert bound_margin(LogZ(2.0, 1.2, 1.0)) == pytest.approx(3.6, abs=1e-5)
    assert bound_margin(LogZ(2.0, 0.1, 49.0), least_ess=10.0) == pytest.approx(0.3, abs=1e-5)
    assert bound_margin(LogZ(5000.0, 0.0, 99.0)) == pytest.approx(5e-3)  # float32 knows no better
