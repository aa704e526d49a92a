"""What the tasks hold and what is held out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from chainfree.datasets import data_dir
from chainfree.experiments.joint.tasks import labelled_at_random, load_task

needs_data = pytest.mark.skipif(data_dir() is None, reason="CHAINFREE_DATA names no folder")


def test_labels_are_as_many_as_asked_of_every_class_or_in_all() -> None:
    y = torch.tensor([0] * 50 + [1] * 30 + [2] * 20)
    balanced = labelled_at_random(y, 7, balanced=True, seed=3)
    assert torch.bincount(balanced[balanced >= 0]).tolist() == [7, 7, 7]
    assert torch.equal(balanced[balanced >= 0], y[balanced >= 0])
    assert torch.equal(balanced, labelled_at_random(y, 7, balanced=True, seed=3))
    assert not torch.equal(balanced, labelled_at_random(y, 7, balanced=True, seed=4))
    together = labelled_at_random(y, 60, balanced=False, seed=0)
    assert int((together >= 0).sum()) == 60
    for labels, how in ((21, True), (101, False)):
        with pytest.raises(ValueError, match="more than there are rows"):
            labelled_at_random(y, labels, balanced=how, seed=0)
    with pytest.raises(ValueError, match="raise labels"):
        labelled_at_random(y, 2, balanced=False, seed=0)


@needs_data
def test_activities_are_held_out_by_person_and_scaled_by_what_is_learned_from() -> None:
    train, test = load_task("har", "validation"), load_task("har", "test")
    assert len(train.x) + len(train.x_judged) == len(test.x) == 7415 and len(test.x_judged) == 2996
    torch.testing.assert_close(train.x.mean(0), torch.zeros(561), atol=1e-4, rtol=0)
    torch.testing.assert_close(test.x.std(0), torch.ones(561), atol=1e-3, rtol=0)
    with np.load(data_dir() / "har561.npz") as file:  # type: ignore[operator]
        persons, first = file["subject_train"], file["x_train"][:, 0]
    learned = set(persons[np.isin(persons, np.unique(persons)[::4], invert=True)])
    assert len(learned) + len(set(persons) - learned) == len(set(persons)) and len(set(persons) - learned) >= 5
    rows = first[np.isin(persons, list(learned))]
    np.testing.assert_allclose(train.x[:, 0], (rows - rows.mean()) / rows.std(ddof=1), atol=1e-4)


@needs_data
def test_the_census_is_numbers_and_indicators() -> None:
    task = load_task("adult", "test")
    assert len(task.x) == 32561 and len(task.x_judged) == 16281 and task.x.shape[1] == task.x_judged.shape[1]
    assert float(task.y.double().mean()) == pytest.approx(7841 / 32561)
    torch.testing.assert_close(task.x[:, :6].mean(0), torch.zeros(6), atol=1e-3, rtol=0)
    indicators = task.x[:, 6:]
    assert set(indicators.unique().tolist()) == {0.0, 1.0}
    assert indicators.sum(1).unique().tolist() == [8.0]  # one of every categorical column, missing cells too
    part = load_task("adult", "validation")
    assert len(part.x) + len(part.x_judged) == 32561 and abs(len(part.x_judged) / 32561 - 0.25) < 0.01
    torch.testing.assert_close(part.x[:, :6].mean(0), torch.zeros(6), atol=1e-5, rtol=0)
    assert float(part.x_judged[:, :6].mean(0).abs().max()) > 1e-4  # by the other rows' scales


@needs_data
@pytest.mark.parametrize(
    ("name", "event", "low", "high"),
    [("mnist", (784,), 0, 1), ("mnist_deskewed", (784,), 0, 1), ("fashion", (1, 28, 28), -1, 1)],
)
def test_images_are_held_out_from_the_end(name: str, event: tuple[int, ...], low: float, high: float) -> None:
    train, test = load_task(name, "validation"), load_task(name, "test")
    assert train.x.shape == (50_000, *event) and test.x_judged.shape == (10_000, *event)
    assert torch.equal(train.x_judged, test.x[50_000:]) and torch.equal(train.y, test.y[:50_000])
    assert float(train.x.min()) == low and float(train.x.max()) == high


@needs_data
def test_digits_set_upright_have_no_slant_and_keep_their_ink() -> None:
    slanted, upright = (load_task(name, "test") for name in ("mnist", "mnist_deskewed"))
    assert torch.equal(slanted.y, upright.y)
    was, now = (_slants(task.x_judged[:2000]) for task in (slanted, upright))
    assert float(was.abs().median()) > 0.1
    assert float(now.abs().max()) < 0.01
    torch.testing.assert_close(upright.x_judged.sum(1), slanted.x_judged.sum(1), rtol=0.01, atol=0)


def _slants(x: torch.Tensor) -> torch.Tensor:
    """Columns that the middle of the ink moves per row, ``(B,)``."""
    ink = x.view(-1, 28, 28).double()
    ink = ink / ink.sum((1, 2), keepdim=True)
    place = torch.arange(28, dtype=torch.float64)
    rows, columns = (ink.sum(2) * place).sum(1), (ink.sum(1) * place).sum(1)
    away = place - rows.unsqueeze(1)
    together = (ink * away.unsqueeze(2) * (place - columns.unsqueeze(1)).unsqueeze(1)).sum((1, 2))
    return together / (ink.sum(2) * away.square()).sum(1)
