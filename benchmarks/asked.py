"""Questions that a benchmark asks side by side, a thread each; what is found is written down at once."""

from __future__ import annotations

import argparse
import hashlib
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed

from chainfree.experiments.notes import Notes

__all__ = ["answers", "jobs_from_arguments", "spread"]

Question = Mapping[str, Any]
Answer = Callable[[Question], Mapping[str, Any]]


def jobs_from_arguments(description: str | None) -> int:
    """``--jobs`` of the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--jobs", type=int, default=2, help="questions side by side, a thread each")
    jobs: int = parser.parse_args().jobs
    return jobs


def answers(
    name: str, answer: Answer, questions: Sequence[Question], *, jobs: int, made_by: Sequence[str | Path] = ()
) -> Notes:
    """All answers, by question; those that the same code has given before are taken up from ``runs/NAME.jsonl``.

    That code is chainfree's, or the files of ``made_by`` where answers depend on these alone.
    """
    digest = hashlib.sha256(b"".join(Path(path).read_bytes() for path in made_by)).hexdigest() if made_by else None
    notes = Notes(Path(f"runs/{name}.jsonl"), made_by=digest)
    missing = [question for question in questions if question not in notes]
    found = Parallel(n_jobs=jobs, return_as="generator_unordered")(delayed(_with)(answer, q) for q in missing)
    for done, (question, answered) in enumerate(found, start=1):
        notes.add(question, answered)
        print(f"{done}/{len(missing)}", *question.values(), _short(answered), flush=True)
    return notes


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean and standard deviation over seeds."""
    return {"mean": statistics.mean(values), "std": statistics.pstdev(values)}


def _with(answer: Answer, question: Question) -> tuple[Question, Mapping[str, Any]]:
    return question, answer(question)


def _short(found: Any) -> Any:
    if isinstance(found, Mapping):
        return {name: _short(value) for name, value in found.items()}
    return round(found, 4) if isinstance(found, float) else found
