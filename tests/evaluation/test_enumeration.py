"""log Z by enumeration against a transfer matrix and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from chainfree.evaluation import log_z_enumeration
from chainfree.evaluation.enumeration import _codes


def test_a_chain_of_spins_is_its_transfer_matrix() -> None:
    coupling = np.random.default_rng(0).normal(size=(3, 3))
    exact = math.log(np.ones(3) @ np.linalg.matrix_power(np.exp(coupling), 8) @ np.ones(3))

    def energy(x: Tensor) -> Tensor:
        at = x.long()
        return -torch.from_numpy(coupling)[at[:, :-1], at[:, 1:]].sum(1)

    for batch in (1 << 14, 1000, 7**4):
        found = log_z_enumeration(energy, [3] * 9, batch=batch, dtype=torch.float64)
        assert found.value == pytest.approx(exact, abs=1e-10)
        assert found.effective_sample_size == 3**9 and found.standard_error == 0


def test_independent_sites_of_unlike_sizes() -> None:
    sizes = [2, 5, 1, 3]
    fields = [torch.randn(size, generator=torch.Generator().manual_seed(size), dtype=torch.float64) for size in sizes]

    def energy(x: Tensor) -> Tensor:
        return -sum(field[x[:, site].long()] for site, field in enumerate(fields))  # type: ignore[return-value]

    exact = sum(float(torch.logsumexp(field, 0)) for field in fields)
    assert log_z_enumeration(energy, sizes, batch=4, dtype=torch.float64).value == pytest.approx(exact, abs=1e-12)
    assert len({tuple(row) for row in _codes(torch.arange(30), sizes).tolist()}) == 30


def test_impossible_rows_add_nothing() -> None:
    def energy(x: Tensor) -> Tensor:
        return torch.where(x[:, 0] == 0, torch.inf, 0.0)

    assert log_z_enumeration(energy, [2, 4]).value == pytest.approx(math.log(4))


def test_as_many_rows_as_can_be() -> None:
    assert log_z_enumeration(lambda x: x.sum(1), [2] * 20).value == pytest.approx(
        20 * math.log1p(math.exp(-1)), rel=1e-6
    )


def test_what_cannot_be_enumerated_is_refused() -> None:
    with pytest.raises(ValueError, match="more than the 2"):
        log_z_enumeration(lambda x: x.sum(1), [2] * 21)
    with pytest.raises(ValueError, match="one number of values for each site"):
        log_z_enumeration(lambda x: x.sum(1), [])
    with pytest.raises(ValueError, match="categories must"):
        log_z_enumeration(lambda x: x.sum(1), [2, 0])
    for bad in (torch.nan, -torch.inf):
        with pytest.raises(ValueError, match="the energy"):
            log_z_enumeration(lambda x, bad=bad: torch.full((len(x),), bad), [2, 2])  # type: ignore[misc]
