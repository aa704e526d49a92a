"""Batches of labelled and other rows at their own rates."""

from __future__ import annotations

import pytest
import torch

import chainfree as cf
from chainfree.typing import Batch


def _stream(size: int = 4, labelled: int = 3, seed: int = 0) -> cf.SemiSupervisedBatches:
    x = torch.arange(20.0).reshape(10, 2)
    y = torch.tensor([-1, 2, -1, -1, 0, -1, -1, 1, -1, -1])
    return cf.semi_supervised_batches(x, y, size=size, labelled=labelled, seed=seed)


def test_labelled_rows_come_first_and_the_others_without_labels() -> None:
    stream = _stream()
    labels = {2.0: 2, 8.0: 0, 14.0: 1}
    for _ in range(5):
        batch = next(stream)
        assert batch.labelled == 3 and len(batch) == 7 and batch.y is not None
        assert {float(x): int(y) for x, y in zip(batch.x[:3, 0], batch.y[:3], strict=True)} == labels
        assert batch.y[3:].tolist() == [-1] * 4
        assert torch.equal(batch.unlabelled().x, batch.x[3:]) and batch.unlabelled().y is None


def test_all_rows_are_drawn_as_data_those_with_labels_too() -> None:
    stream = _stream(size=5)
    seen = torch.cat([next(stream).x[3:, 0] for _ in range(2)])
    assert sorted(seen.tolist()) == [2.0 * k for k in range(10)]


def test_with_all_labels_the_two_orders_have_nothing_in_common() -> None:
    x = torch.arange(2000.0).reshape(1000, 2)
    stream = cf.semi_supervised_batches(x, torch.zeros(1000, dtype=torch.int64), size=100, labelled=100, seed=0)
    for _ in range(3):
        batch = next(stream)
        shared = len(set(batch.x[:100, 0].tolist()) & set(batch.x[100:, 0].tolist()))
        assert shared < 30  # 10 by chance


def test_few_labels_are_repeated() -> None:
    batch = next(_stream(labelled=7))
    assert batch.y is not None
    counts = torch.bincount(batch.y[:7])
    assert int(counts.sum()) == 7 and int(counts.max()) <= 3


def test_a_saved_position_goes_on_where_it_was() -> None:
    stream, again = _stream(), _stream()
    for _ in range(6):
        next(stream)
    again.load_state_dict(stream.state_dict())
    for _ in range(3):
        a, b = next(stream), next(again)
        assert torch.equal(a.x, b.x)
    with pytest.raises(ValueError, match="another kind of stream"):
        stream.load_state_dict({"position": 1})
    with pytest.raises(ValueError, match="seed was 0 and is 1 here"):
        _stream(seed=1).load_state_dict(stream.state_dict())


def test_what_has_no_label_is_refused() -> None:
    x = torch.zeros(4, 2)
    with pytest.raises(ValueError, match="no row has a label"):
        cf.semi_supervised_batches(x, torch.full((4,), -1), size=2, labelled=1)
    with pytest.raises(ValueError, match="y must be whole numbers"):
        cf.semi_supervised_batches(x, torch.zeros(4), size=2, labelled=1)
    with pytest.raises(ValueError, match="labelled"):
        cf.semi_supervised_batches(x, torch.zeros(4, dtype=torch.int64), size=2, labelled=0)


def test_a_batch_without_such_rows_is_data_as_a_whole() -> None:
    batch = Batch(torch.zeros(3, 2), torch.tensor([0, -1, 1]))
    assert len(batch.unlabelled()) == 3
    assert len(batch.unlabelled(2)) == 2
    assert torch.equal(Batch(torch.arange(5.0), None, 2).unlabelled(2).x, torch.tensor([2.0, 3.0]))
    assert batch.to(torch.device("cpu")).labelled == 0
    assert Batch(batch.x, batch.y, 2).to(torch.device("cpu")).labelled == 2
