"""Trainings side by side, each in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

import torch
from joblib import Parallel, delayed

from ...threads import use_threads

__all__ = ["side_by_side"]

Answer = TypeVar("Answer")


def side_by_side(
    ask: Callable[..., Answer], questions: Sequence[tuple[Any, ...]], *, jobs: int
) -> Generator[Answer, None, None]:
    """``ask(*question)`` for every question, in their order, each answer as soon as it and those before it are there.

    Args:
        ask: a function of a module, for it is sent to other processes with its question.
        questions: its arguments.
        jobs: processes; 1 asks here, one question after the other. Each computes on as many threads as torch has here, so
            set these first: with several jobs to a core all are slower.
    """
    if jobs == 1:
        for question in questions:
            yield ask(*question)
        return
    calls = (delayed(_on_threads)(torch.get_num_threads(), ask, question) for question in questions)
    # one at a time: by default quick questions are sent in batches, and a batch of slow ones would go to one process
    yield from Parallel(n_jobs=jobs, batch_size=1, return_as="generator")(calls)


def _on_threads(threads: int, ask: Callable[..., Answer], question: tuple[Any, ...]) -> Answer:
    use_threads(threads)
    return ask(*question)
