"""Stacks of digits: which digits they show, how they are numbered, and that a resumed stream is bitwise the same."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from chainfree.batches import batches
from chainfree.datasets import (
    DataError,
    Images,
    StackedDigits,
    data_dir,
    load_mnist,
    scaled_pixels,
    stacked_classes,
    stacked_mnist,
)


def _painted(labels: list[int]) -> Images:
    """Digits whose grey value, 20 times the digit, says what they are."""
    y = torch.tensor(labels)
    return Images((20 * y).to(torch.uint8).view(-1, 1, 1, 1).repeat(1, 1, 2, 3), y)


def _seen(x: Tensor) -> np.ndarray:
    """The digits that are painted on stacks, ``(N, 3)``."""
    grey = (x.numpy().astype(np.float64) + 1) * 127.5 / 20
    assert np.ptp(grey.reshape(*grey.shape[:2], -1), axis=2).max() == 0  # one digit fills one channel
    return grey[:, :, 0, 0].round().astype(int)


def test_labels_name_the_channels_in_order() -> None:
    batch = next(StackedDigits(_painted(list(range(10))), size=500, seed=1))
    assert batch.x.shape == (500, 3, 2, 3) and batch.x.dtype == torch.float32
    assert batch.y is not None and batch.y.dtype == torch.int64
    expected = [int(f"{a}{b}{c}") for a, b, c in _seen(batch.x)]
    assert batch.y.tolist() == expected
    assert len({tuple(row) for row in _seen(batch.x)}) > 300


def test_classes_by_hand() -> None:
    triples = list(itertools.product(range(10), repeat=3))
    assert stacked_classes(torch.tensor(triples)).tolist() == list(range(1000))


def test_pixels_lie_between_minus_one_and_one() -> None:
    grey = np.arange(256, dtype=np.uint8)
    out = scaled_pixels(torch.from_numpy(grey))
    np.testing.assert_allclose(out.numpy(), np.linspace(-1, 1, 256), atol=1e-7)
    assert out.min() == -1 and out.max() == 1


def test_shares_are_those_of_independent_draws_with_replacement() -> None:
    labels = [0] * 6 + [3] * 3 + [9]
    stream = StackedDigits(_painted(labels), size=20_000, seed=2)
    share = {0: 0.6, 3: 0.3, 9: 0.1}
    expected = {100 * a + 10 * b + c: share[a] * share[b] * share[c] for a, b, c in itertools.product(share, repeat=3)}
    exact = stream.class_shares
    assert exact.shape == (1000,) and float(exact.sum()) == pytest.approx(1.0)
    assert {int(k): float(exact[k]) for k in exact.nonzero()} == pytest.approx(expected)
    y = next(stream).y
    assert y is not None
    counts = [int((y == k).sum()) for k in expected]
    assert sum(counts) == 20_000
    assert stats.chisquare(counts, [20_000 * p for p in expected.values()]).pvalue > 1e-3


@settings(max_examples=30, deadline=None)
@given(st.integers(-5, 2**63), st.integers(0, 60), st.integers(1, 9))
def test_a_resumed_stream_continues_bitwise(seed: int, position: int, size: int) -> None:
    digits = _painted([1, 2, 3, 4, 5])
    first, second = (StackedDigits(digits, size=size, seed=seed) for _ in range(2))
    for _ in range(position):
        next(first)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for _ in range(3):
        a, b = next(first), next(second)
        assert torch.equal(a.x, b.x)
        assert a.y is not None and b.y is not None and torch.equal(a.y, b.y)
    assert first.state_dict() == second.state_dict()


def test_batches_and_seeds_differ_and_the_global_generator_is_left_alone() -> None:
    digits = _painted(list(range(10)))
    before = torch.random.get_rng_state()
    drawn = [[next(stream).y for _ in range(3)] for stream in (StackedDigits(digits, size=50, seed=s) for s in (0, 1))]
    assert torch.equal(before, torch.random.get_rng_state())
    every = torch.stack([y for ys in drawn for y in ys if y is not None])
    assert len(every.unique(dim=0)) == 6  # batch 1 of seed 0 is not batch 0 of seed 1 either


def test_a_batch_is_the_callers_own() -> None:
    digits = _painted([7, 8])
    next(StackedDigits(digits, size=4)).x.zero_()
    assert torch.equal(digits.x[:, 0, 0, 0], torch.tensor([140, 160], dtype=torch.uint8))


def test_unusable_digits_and_options_are_refused() -> None:
    good = _painted([1, 2])
    colour = Images(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([1, 2]))
    with pytest.raises(DataError, match="one channel, got 3"):
        StackedDigits(colour, size=1)
    for label in (-1, 10):
        with pytest.raises(DataError, match="classes 0 to 9"):
            StackedDigits(Images(good.x, torch.tensor([1, label])), size=1)
    for size in (0, 1.5, True):
        with pytest.raises(ValueError, match="size must be"):
            StackedDigits(good, size=size)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="seed must be"):
        StackedDigits(good, size=1, seed=0.5)  # type: ignore[arg-type]


def test_a_state_of_another_stream_is_refused() -> None:
    state = StackedDigits(_painted([1, 2, 3]), size=2, seed=0).state_dict()
    larger = Images(torch.zeros(3, 1, 4, 4, dtype=torch.uint8), torch.tensor([1, 2, 3]))
    others = {
        "rows": StackedDigits(_painted([1, 2]), size=2, seed=0),
        "event": StackedDigits(larger, size=2, seed=0),
        "size": StackedDigits(_painted([1, 2, 3]), size=3, seed=0),
        "seed": StackedDigits(_painted([1, 2, 3]), size=2, seed=1),
        "kind": batches(torch.zeros(3, 1, 2, 3), size=2, seed=0),
    }
    for name, other in others.items():
        with pytest.raises(ValueError, match=f"other data: {name} was"):
            other.load_state_dict(state)


def test_each_split_stacks_its_own_images(tmp_path: Path) -> None:
    grey = {"train": 10, "test": 200}
    arrays = {f"x_{s}": np.full((4, 28, 28), g, dtype=np.uint8) for s, g in grey.items()}
    np.savez(tmp_path / "mnist.npz", **arrays, y_train=np.full(4, 3), y_test=np.full(4, 6))
    for split, label in [("train", 333), ("test", 666)]:
        batch = next(stacked_mnist(split, size=2, seed=1, data_dir=tmp_path))  # type: ignore[arg-type]
        assert batch.y is not None and batch.y.tolist() == [label, label]
        assert torch.equal(batch.x, torch.full((2, 3, 28, 28), grey[split] / 127.5 - 1))
    with pytest.raises(ValueError, match="split must be"):
        stacked_mnist("valid", size=2, data_dir=tmp_path)  # type: ignore[arg-type]


def test_the_real_digits() -> None:
    folder = data_dir()
    if folder is None or not (folder / "mnist.npz").is_file():
        pytest.skip("CHAINFREE_DATA names no folder with mnist.npz")
    digits = load_mnist("test")
    known = {image.numpy().tobytes(): int(label) for image, label in zip(digits.x, digits.y, strict=True)}
    batch = next(stacked_mnist("test", size=50, seed=3))
    assert batch.y is not None
    for stack, label in zip(batch.x, batch.y.tolist(), strict=True):
        grey = ((stack + 1) * 127.5).round().to(torch.uint8)
        a, b, c = (known[channel.numpy().tobytes()] for channel in grey)
        assert label == 100 * a + 10 * b + c
