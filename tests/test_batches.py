"""The streams: what they yield, and that a resumed one is bitwise the same."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from chainfree.batches import SampledBatches, batches
from chainfree.datasets import toy_density


def _numbered(rows: int) -> Tensor:
    """Rows that say which they are."""
    return torch.arange(float(rows)).reshape(rows, 1)


def _take(stream: object, n: int) -> Tensor:
    return torch.stack([next(stream).x for _ in range(n)])  # type: ignore[call-overload]


shapes = st.integers(1, 40).flatmap(lambda rows: st.tuples(st.just(rows), st.integers(1, rows)))


@settings(max_examples=60, deadline=None)
@given(shapes, st.integers(0, 2**63), st.integers(0, 90), st.booleans())
def test_a_resumed_stream_continues_bitwise(shape: tuple[int, int], seed: int, position: int, shuffle: bool) -> None:
    rows, size = shape
    x, y = torch.randn(rows, 2, generator=torch.Generator().manual_seed(rows)), torch.arange(rows)
    first = batches(x, size=size, y=y, seed=seed, shuffle=shuffle)
    for _ in range(position):
        next(first)
    state = json.loads(json.dumps(first.state_dict()))  # plain numbers and strings
    second = batches(x, size=size, y=y, seed=seed, shuffle=shuffle)
    second.load_state_dict(state)
    assert second.epoch == first.epoch
    for _ in range(2 * rows // size + 2):
        a, b = next(first), next(second)
        assert torch.equal(a.x, b.x)
        assert a.y is not None and b.y is not None and torch.equal(a.y, b.y)


@settings(max_examples=60, deadline=None)
@given(shapes, st.integers(0, 1000))
def test_an_epoch_has_distinct_rows(shape: tuple[int, int], seed: int) -> None:
    rows, size = shape
    stream = batches(_numbered(rows), size=size, seed=seed)
    for epoch in range(3):
        assert stream.epoch == epoch
        seen = _take(stream, rows // size).flatten().tolist()
        assert len(seen) == len(set(seen)) == rows // size * size
        assert set(seen) <= set(range(rows))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 2**32))
def test_two_seeds_differ(one: int, other: int) -> None:
    x = _numbered(200)
    same = torch.equal(_take(batches(x, size=50, seed=one), 4), _take(batches(x, size=50, seed=other), 4))
    assert same == (one == other)


def test_seed_and_epoch_are_not_added() -> None:
    x = _numbered(100)
    zero, one = batches(x, size=100, seed=0), batches(x, size=100, seed=1)
    next(zero)
    assert not torch.equal(next(zero).x, next(one).x)


def test_rows_and_labels_stay_together_and_epochs_differ() -> None:
    x = _numbered(30)
    stream = batches(x, size=30, y=torch.arange(30), seed=3)
    first, second = next(stream), next(stream)
    assert first.y is not None and torch.equal(first.x[:, 0], first.y.float())
    assert not torch.equal(first.x, second.x)
    assert not torch.equal(first.x, x)


def test_every_row_is_seen_although_the_remainder_is_dropped() -> None:
    stream = batches(_numbered(7), size=4, seed=0)
    assert set(_take(stream, 50).flatten().tolist()) == set(range(7))


def test_unshuffled_wraps_round() -> None:
    stream = batches(_numbered(5), size=3, shuffle=False)
    assert [next(stream).x.flatten().tolist() for _ in range(4)] == [[0, 1, 2], [3, 4, 0], [1, 2, 3], [4, 0, 1]]
    assert stream.epoch == 2
    assert stream.rows == 5


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("float32", torch.float32),
        ("float64", torch.float64),
        (">f8", torch.float64),
        (">i2", torch.float32),
        ("float16", torch.float32),
        ("uint8", torch.float32),
        ("uint64", torch.float32),
        ("bool", torch.float32),
    ],
)
def test_numpy_types(dtype: str, expected: torch.dtype) -> None:
    x = (np.arange(12).reshape(4, 3) % 2).astype(dtype)
    x.flags.writeable = False
    out = next(batches(x[::-1], size=4, shuffle=False)).x
    assert out.dtype == expected
    np.testing.assert_array_equal(out.numpy(), x[::-1].astype("float64"))


def test_label_types() -> None:
    x = _numbered(4)
    for y in (np.array([0, 1, -1, 3], dtype=np.int16), torch.tensor([0, 1, -1, 3], dtype=torch.int32)):
        labels = next(batches(x, size=4, y=y, shuffle=False)).y
        assert labels is not None and labels.dtype == torch.int64 and labels.tolist() == [0, 1, -1, 3]
    labels = next(batches(x, size=4, y=np.array([0.5, 1, 2, 3]), shuffle=False)).y
    assert labels is not None and labels.dtype == torch.float64 and labels[0] == 0.5


def test_images_keep_their_shape_and_the_callers_tensor_its_graph() -> None:
    x = torch.randn(6, 1, 4, 4, requires_grad=True)
    out = next(batches(x, size=2))
    assert out.x.shape == (2, 1, 4, 4) and not out.x.requires_grad and x.requires_grad


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(0, 2), "at least one row"),
        (torch.zeros(3, 0), "at least one row"),
        (torch.zeros(3), r"reshape to \(N, 1\)"),
        (torch.tensor(1.0), "at least one row"),
        (torch.tensor([[0.0], [torch.nan], [torch.inf]]), "2 of 3 rows, first in row 1"),
        (torch.zeros(3, 1, dtype=torch.complex64), "real numbers"),
        (np.array([[1, "a"]], dtype=object), "object"),
        (np.array([["a"]]), "real numbers"),
        ([[1.0]], "list"),
    ],
)
def test_unusable_rows_are_refused(x: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        batches(x, size=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 5}, "size=5 for 4 rows; lower size"),
        ({"size": 0}, "size must be"),
        ({"size": 2.0}, "size must be"),
        ({"size": 2, "seed": 0.5}, "seed must be"),
        ({"size": 2, "seed": True}, "seed must be"),
        ({"size": 2, "y": torch.zeros(3)}, "4 rows of x; give one label"),
        ({"size": 2, "y": torch.zeros(4, 1)}, "one label per row"),
        ({"size": 2, "y": torch.full((4,), torch.nan)}, "y has NaN"),
        ({"size": 2, "y": np.array(["a"] * 4)}, "y is an array of"),
    ],
)
def test_unusable_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        batches(_numbered(4), **options)  # type: ignore[arg-type]


def test_a_state_of_other_data_is_refused() -> None:
    state = batches(_numbered(8), size=2, seed=0).state_dict()
    others = {
        "rows": batches(_numbered(9), size=2, seed=0),
        "event": batches(torch.zeros(8, 2), size=2, seed=0),
        "size": batches(_numbered(8), size=4, seed=0),
        "seed": batches(_numbered(8), size=2, seed=1),
        "shuffle": batches(_numbered(8), size=2, seed=0, shuffle=False),
        "kind": SampledBatches(toy_density("moons"), size=2, seed=0),
    }
    for name, other in others.items():
        with pytest.raises(ValueError, match=f"other data: {name} was"):
            other.load_state_dict(state)
    same = batches(_numbered(8), size=2, seed=0)
    for position in (-1, 1.5, True, None, "3"):
        with pytest.raises(ValueError, match="position must be"):
            same.load_state_dict({**state, "position": position})


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**63), st.integers(0, 200))
def test_resumed_draws_continue_bitwise(seed: int, position: int) -> None:
    first = SampledBatches(toy_density("8gaussians"), size=3, seed=seed)
    for _ in range(position):
        next(first)
    second = SampledBatches(toy_density("8gaussians"), size=3, seed=seed)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert torch.equal(_take(first, 70), _take(second, 70))


def test_draws_are_fresh_and_leave_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    drawn = _take(SampledBatches(toy_density("25gaussians"), size=5, seed=1), 200).reshape(-1, 2)
    next(batches(_numbered(8), size=2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert len(drawn.unique(dim=0)) == 1000
    other = _take(SampledBatches(toy_density("25gaussians"), size=5, seed=2), 200).reshape(-1, 2)
    assert not torch.equal(drawn, other)


class _Odd:
    def __init__(self, draws: Tensor) -> None:
        self.draws = draws

    def log_prob(self, x: Tensor, /) -> Tensor:
        return x.sum(-1)

    def sample(self, n: int, /, *, generator: torch.Generator | None = None) -> Tensor:
        return self.draws


@pytest.mark.parametrize(
    ("draws", "message"),
    [
        (torch.zeros(1), r"return \(1, \*event\)"),
        (torch.zeros(2, 2), "has shape"),
        (torch.full((1, 2), torch.nan), "NaN"),
    ],
)
def test_unusable_draws_are_refused(draws: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SampledBatches(_Odd(draws), size=2)


def test_draws_of_another_density_are_refused() -> None:
    state = SampledBatches(toy_density("moons"), size=2).state_dict()
    with pytest.raises(ValueError, match="density was 'NoisyCurve'"):
        SampledBatches(toy_density("pinwheel"), size=2).load_state_dict(state)
