"""Linear logits of mixed rows against the product of features and coefficients."""

from __future__ import annotations

import pytest
import torch

from chainfree.energies import TabularLinear


def test_it_is_linear_in_its_features() -> None:
    linear = TabularLinear([None, 3, None, 2, 4], states={2: 3}, outputs=3).double()
    generator = torch.Generator().manual_seed(0)
    coefficients = torch.randn(2 + 3 + 2 + 4, 3, generator=generator, dtype=torch.float64)
    bias = torch.randn(3, generator=generator, dtype=torch.float64)
    linear.set_(coefficients, bias)
    x = torch.tensor([[0.5, 2.0, -1.0, 0.0, 3.0], [1.5, 0.0, 7.0, 1.0, 0.0]], dtype=torch.float64)
    indicators = [[0, 0, 1, 1, 0, 0, 0, 0, 1], [1, 0, 0, 0, 1, 1, 0, 0, 0]]
    # the second row's number is hidden
    features = torch.tensor([[0.5, -1.0, *indicators[0]], [1.5, 0.0, *indicators[1]]], dtype=torch.float64)
    assert torch.equal(linear.features(x), features)
    torch.testing.assert_close(linear(x), features @ coefficients + bias)
    only_numbers = TabularLinear([None], outputs=2)
    assert only_numbers(torch.ones(4, 1)).tolist() == [[0.0, 0.0]] * 4


def test_refusals() -> None:
    with pytest.raises(ValueError, match="columns is empty"):
        TabularLinear([], outputs=2)
    with pytest.raises(ValueError, match="outputs must be a whole number above 0, got 0"):
        TabularLinear([None], outputs=0)
