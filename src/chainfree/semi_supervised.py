"""Batches of a few labelled rows and many others, each drawn at its own rate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from .batches import ArrayBatches, checked_rows
from .checks import require_positive_int
from .typing import Batch

__all__ = ["SemiSupervisedBatches", "semi_supervised_batches"]


def semi_supervised_batches(
    x: Tensor | NDArray[Any],
    y: Tensor | NDArray[Any],
    *,
    size: int,
    labelled: int,
    seed: int = 0,
) -> SemiSupervisedBatches:
    """An endless stream of batches with ``labelled`` rows that have labels, and ``size`` drawn from all rows.

    Args:
        x: rows, ``(N, *event)``, as in :func:`chainfree.batches`.
        y: classes as whole numbers, -1 where unlabelled, ``(N,)``.
        size: rows of a batch that are drawn from all rows, with or without a label, and come without.
        labelled: rows of a batch that are drawn from those with a label, and come first. With fewer such rows in all,
            they are repeated.
        seed: of both orders, which know nothing of each other, also where all rows have labels.

    Raises:
        ValueError: no row has a label, or what :func:`chainfree.batches` refuses.

    >>> stream = semi_supervised_batches(torch.arange(8.0).reshape(4, 2), torch.tensor([1, -1, -1, -1]), size=3, labelled=2)
    >>> batch = next(stream)
    >>> len(batch), batch.labelled, batch.y.tolist(), len(batch.unlabelled())
    (5, 2, [1, 1, -1, -1, -1], 3)
    """
    require_positive_int("labelled", labelled)
    rows, labels = checked_rows(x, y)
    if labels is None or labels.is_floating_point():
        raise ValueError("y must be whole numbers, classes from 0 on and -1 where unlabelled")
    known = torch.nonzero(labels >= 0).squeeze(1)
    if not len(known):
        raise ValueError("no row has a label: all of y is below 0; use chainfree.batches without y")
    repeats = -(-labelled // len(known))
    known = known.repeat(repeats)
    few = ArrayBatches(rows[known], labels[known], size=labelled, seed=seed, shuffle=True, purpose="labelled")
    return SemiSupervisedBatches(few, ArrayBatches(rows, None, size=size, seed=seed, shuffle=True))


class SemiSupervisedBatches:
    """The stream that :func:`semi_supervised_batches` makes.

    Args:
        labelled: stream of the rows with labels.
        everything: stream of all rows.
    """

    def __init__(self, labelled: ArrayBatches, everything: ArrayBatches) -> None:
        self._labelled, self._everything = labelled, everything

    @property
    def rows(self) -> int:
        """Number of rows, N."""
        return self._everything.rows

    @property
    def epoch(self) -> int:
        """Full passes through all rows before the next batch."""
        return self._everything.epoch

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        few, many = next(self._labelled), next(self._everything)
        assert few.y is not None
        hidden = few.y.new_full((len(many),), -1)
        return Batch(torch.cat([few.x, many.x]), torch.cat([few.y, hidden]), len(few))

    def state_dict(self) -> dict[str, Any]:
        """Positions in both streams."""
        return {"labelled": self._labelled.state_dict(), "everything": self._everything.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Move to a saved position.

        Raises:
            ValueError: the state is of another stream, or of other rows, sizes or seeds.
        """
        if set(state) != {"labelled", "everything"}:
            raise ValueError("the saved position belongs to another kind of stream; resume with the same data")
        self._labelled.load_state_dict(state["labelled"])
        self._everything.load_state_dict(state["everything"])
