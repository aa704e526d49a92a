"""What classifiers are compared on: rows to learn from, a few labels, and rows to be judged by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ...datasets import Images, deskewed, find, load_cifar10, load_fashion_mnist, load_mnist, read_arrays
from .adult import adult_columns

__all__ = ["IMAGES", "TASKS", "JudgedOn", "Task", "labelled_at_random", "load_task", "loaded", "require_task"]

JudgedOn = Literal["validation", "test"]

_HELD_OUT_IMAGES = 10_000
_EVERY_FOURTH = 4


@dataclass(frozen=True)
class Task:
    """Rows in the networks' coordinates.

    Args:
        x: training rows, ``(N, *event)``.
        y: their classes, ``(N,)``; which of them a method may see is the experiment's matter.
        x_judged, y_judged: rows to be judged by: of the training split while settings are chosen, then of the test split.
        classes: K.
    """

    x: Tensor
    y: Tensor
    x_judged: Tensor
    y_judged: Tensor
    classes: int


def labelled_at_random(y: Tensor, labels: int, *, balanced: bool, seed: int) -> Tensor:
    """The classes of ``labels`` rows, and -1 for the others, ``(N,)``.

    Args:
        y: classes, ``(N,)``.
        labels: rows of each class where ``balanced``, or else of all together, drawn without regard to their class.
        balanced: which of the two.
        seed: of the choice.

    Raises:
        ValueError: more labels than rows, or a class without one.
    """
    rng = np.random.default_rng(seed)
    known, classes = y.numpy(), int(y.max()) + 1
    members = [np.flatnonzero(known == k) for k in range(classes)]
    if labels > (min(map(len, members)) if balanced else len(known)):
        raise ValueError(f"labels={labels!r} is more than there are rows; lower it")
    if balanced:
        chosen = np.concatenate([rng.choice(rows, labels, replace=False) for rows in members])
    else:
        chosen = rng.choice(len(known), labels, replace=False)
    hidden = torch.full_like(y, -1)
    hidden[chosen] = y[chosen]
    if len(torch.unique(hidden[chosen])) < classes:
        raise ValueError(f"of {labels} labelled rows none is of one of the {classes} classes; raise labels")
    return hidden


def load_task(name: str, judged_on: JudgedOn) -> Task:
    """The data of a task; with ``judged_on="validation"``, a part of its training split is held out and judged.

    Raises:
        ValueError: no such task.
        DataError: its file is missing.
    """
    require_task(name)
    return TASKS[name](judged_on)


@lru_cache(maxsize=1)
def loaded(load: Callable[[JudgedOn], Task], judged_on: JudgedOn) -> Task:
    """What one of :data:`TASKS` gives, kept until another is asked for.

    For processes that answer one question after the other: they are sent this function and not the rows.
    """
    return load(judged_on)


def require_task(name: str, *, images: bool = False) -> None:
    """Raise ``ValueError`` unless there is such a task, one of images where these are needed."""
    known = IMAGES if images else TASKS
    if name not in known:
        raise ValueError(f"task must be one of {', '.join(known)}, got {name!r}")


def _activity(judged_on: JudgedOn) -> Task:
    """561 features of a smartphone's signals, six activities; no person is in both parts."""
    train = read_arrays(find("har561.npz"), ["x_train", "y_train", "subject_train", "x_test", "y_test"])
    x, y = torch.from_numpy(train["x_train"]), torch.from_numpy(train["y_train"].astype(np.int64))
    if judged_on == "validation":
        persons = train["subject_train"]
        held_out = torch.from_numpy(np.isin(persons, np.unique(persons)[::_EVERY_FOURTH]))
        x, y, x_judged, y_judged = x[~held_out], y[~held_out], x[held_out], y[held_out]
    else:
        x_judged, y_judged = torch.from_numpy(train["x_test"]), torch.from_numpy(train["y_test"].astype(np.int64))
    return _standardised(x, y, x_judged, y_judged, classes=6)


def _adult(judged_on: JudgedOn) -> Task:
    """Census rows: numbers standardised, categories as indicators; income above 50,000 dollars or not."""
    learned, judged = adult_columns(held_out=1 / _EVERY_FOURTH if judged_on == "validation" else None)
    return Task(learned.x, learned.y, judged.x, judged.y, 2)


def _digits(judged_on: JudgedOn) -> Task:
    """MNIST as rows of 784 numbers from 0 to 1."""
    return _images(load_mnist, judged_on, lambda pixels: pixels.flatten(1).float() / 255)


def _upright_digits(judged_on: JudgedOn) -> Task:
    """The same, every digit set upright by its moments."""
    return _images(load_mnist, judged_on, lambda pixels: deskewed(pixels.float() / 255).flatten(1))


def _clothes(judged_on: JudgedOn) -> Task:
    """Fashion-MNIST as images from -1 to 1."""
    return _images(load_fashion_mnist, judged_on, lambda pixels: pixels.float() / 127.5 - 1)


def _photographs(judged_on: JudgedOn) -> Task:
    """CIFAR-10 as images from -1 to 1."""
    return _images(load_cifar10, judged_on, lambda pixels: pixels.float() / 127.5 - 1)


def _images(
    load: Callable[[Literal["train", "test"]], Images], judged_on: JudgedOn, scaled: Callable[[Tensor], Tensor]
) -> Task:
    train = load("train")
    x, y = scaled(train.x), train.y
    if judged_on == "validation":
        kept = len(x) - _HELD_OUT_IMAGES
        # copies: a part of a tensor is sent to another process with the whole of it
        return Task(x[:kept].clone(), y[:kept].clone(), x[kept:].clone(), y[kept:].clone(), 10)
    test = load("test")
    return Task(x, y, scaled(test.x), test.y, 10)


def _standardised(x: Tensor, y: Tensor, x_judged: Tensor, y_judged: Tensor, *, classes: int) -> Task:
    mean, deviation = x.double().mean(0), x.double().std(0)
    x, x_judged = (((part - mean) / deviation).float() for part in (x, x_judged))
    return Task(x, y, x_judged, y_judged, classes)


TASKS: dict[str, Callable[[JudgedOn], Task]] = {
    "har": _activity,
    "mnist": _digits,
    "mnist_deskewed": _upright_digits,
    "adult": _adult,
    "fashion": _clothes,
    "cifar10": _photographs,
}
IMAGES = {"fashion": (1, 28, 28), "cifar10": (3, 32, 32)}  # tasks whose rows keep their shape, and the shape
