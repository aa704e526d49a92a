"""The held-out split."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainfree.datasets import train_held_out_split


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 200), st.floats(0.001, 0.999), st.integers(0, 2**32))
def test_split_has_every_row_once(n: int, fraction: float, seed: int) -> None:
    train, held_out = train_held_out_split(n, fraction, seed)
    assert sorted(np.concatenate([train, held_out]).tolist()) == list(range(n))
    assert len(train) >= 1 and len(held_out) >= 1
    assert abs(len(held_out) - n * fraction) <= 1
    again = train_held_out_split(n, fraction, seed)
    assert np.array_equal(train, again[0])


def test_split_depends_on_the_seed_and_refuses_nonsense() -> None:
    assert not np.array_equal(train_held_out_split(100, 0.5, 0)[0], train_held_out_split(100, 0.5, 1)[0])
    for n, fraction in [(1, 0.5), (10, 0.0), (10, 1.0), (10, float("nan"))]:
        with pytest.raises(ValueError, match="got"):
            train_held_out_split(n, fraction, 0)
