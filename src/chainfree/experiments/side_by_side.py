"""Trainings side by side, each in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

import torch
from joblib import Parallel, delayed

from ..threads import use_threads

__all__ = ["side_by_side"]

Answer = TypeVar("Answer")


def side_by_side(
    ask: Callable[..., Answer], questions: Sequence[tuple[Any, ...]], *, jobs: int
) -> Generator[tuple[int, Answer], None, None]:
    """Index and ``ask(*question)`` of every question, as soon as each is there.

    Args:
        ask: a function of a module, for it is sent to other processes with its question.
        questions: its arguments.
        jobs: processes; 1 asks here, one question after the other. Each computes on as many threads as torch has here, so
            set these first: with more threads in all than cores everything is slower.
    """
    if jobs == 1:
        for index, question in enumerate(questions):
            yield index, ask(*question)
        return
    calls = (
        delayed(_on_threads)(torch.get_num_threads(), ask, index, question) for index, question in enumerate(questions)
    )
    # one at a time: by default quick questions are sent in batches, and a batch of slow ones would go to one process
    yield from Parallel(n_jobs=jobs, batch_size=1, return_as="generator_unordered")(calls)


def _on_threads(threads: int, ask: Callable[..., Answer], index: int, question: tuple[Any, ...]) -> tuple[int, Answer]:
    use_threads(threads)
    return index, ask(*question)
