"""Sums over columns against the product of features and coefficients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from chainfree.energies import TabularAdditive


def test_it_is_linear_in_its_features() -> None:
    additive = TabularAdditive([None, 3, None, 2, 4], states={2: 3}, outputs=3, knots=2).double()
    additive.knots.copy_(torch.tensor([[0.0, 1.0], [-2.0, 5.0]]))
    additive.inverse_scales.copy_(torch.tensor([[2.0, 1.0], [0.5, 1.0]]))
    generator = torch.Generator().manual_seed(0)
    coefficients = torch.randn(2 + 4 + 3 + 2 + 4, 3, generator=generator, dtype=torch.float64)
    bias = torch.randn(3, generator=generator, dtype=torch.float64)
    additive.set_(coefficients, bias)
    x = torch.tensor([[0.5, 2.0, -1.0, 0.0, 3.0], [1.5, 0.0, 7.0, 1.0, 0.0]], dtype=torch.float64)
    indicators = [[0, 0, 1, 1, 0, 0, 0, 0, 1], [1, 0, 0, 0, 1, 1, 0, 0, 0]]
    # the second row's number is hidden
    hinges = [[1.0, 0.0, 0.5, 0.0], [3.0, 0.5, 0.0, 0.0]]
    features = [[0.5, -1.0, *hinges[0], *indicators[0]], [1.5, 0.0, *hinges[1], *indicators[1]]]
    assert additive.features(x).tolist() == features
    torch.testing.assert_close(additive(x), torch.tensor(features, dtype=torch.float64) @ coefficients + bias)
    only_numbers = TabularAdditive([None], outputs=2)
    assert only_numbers(torch.ones(4, 1)).tolist() == [[0.0, 0.0]] * 4


def test_knots_are_quantiles_of_what_is_shown_and_hinges_have_unit_spread() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(401, 3, generator=generator).exp()
    rows[:, 2] = (torch.rand(401, generator=generator) < 0.3).float()
    additive = TabularAdditive([None, None, 2], states={1: 2}, outputs=2)
    additive.place_knots_(rows)
    np.testing.assert_allclose(additive.knots[0], np.quantile(rows[:, 0], [0.25, 0.5, 0.75]), rtol=1e-6)
    shown = rows[rows[:, 2] == 0, 1]
    quartiles = np.quantile(shown, [0.25, 0.5, 0.75], method="nearest")
    np.testing.assert_allclose(additive.knots[1], quartiles, rtol=1e-6)
    np.testing.assert_allclose(additive.features(rows)[:, 2:8].numpy().std(0), 1.0, rtol=1e-5)


def test_a_number_that_never_changes_has_no_hinges() -> None:
    additive = TabularAdditive([None, 2], outputs=1)
    additive.place_knots_(torch.tensor([[3.0, 0.0]] * 5))
    assert additive.features(torch.tensor([[9.0, 1.0]])).tolist() == [[9.0, 0.0, 0.0, 0.0, 0.0, 1.0]]


def test_refusals() -> None:
    with pytest.raises(ValueError, match="columns is empty"):
        TabularAdditive([], outputs=2)
    with pytest.raises(ValueError, match="outputs must be a whole number above 0, got 0"):
        TabularAdditive([None], outputs=0)
    with pytest.raises(ValueError, match="knots must be a whole number above 0, got 0"):
        TabularAdditive([None], outputs=1, knots=0)


def test_hinges_are_constant_beyond_what_was_seen() -> None:
    additive = TabularAdditive([None], outputs=1)
    additive.place_knots_(torch.linspace(0, 1, 101).unsqueeze(1))
    beyond = additive.features(torch.tensor([[1.0], [2.0], [50.0]]))
    assert beyond[:, 0].tolist() == [1.0, 2.0, 50.0]
    assert torch.equal(beyond[1, 1:], beyond[0, 1:]) and torch.equal(beyond[2, 1:], beyond[0, 1:])
