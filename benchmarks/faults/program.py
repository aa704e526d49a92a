"""The program under test, and what a refusal should look like."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chainfree.cli import main as chainfree_main
from chainfree.engine import (
    TrainingDivergedError,
)


def program(*arguments: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "chainfree", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@dataclasses.dataclass(frozen=True)
class Case:
    """One bad input: ``refuse`` returns what was wrong with the refusal, or ``None``."""

    name: str
    refuse: Callable[[], str | None]


def _judged(status: int, out: str, err: str) -> str | None:
    lines = err.splitlines()
    if "Traceback" in err:
        return "a traceback"
    if status != 2:
        return f"exit status {status}: {lines[-1:]}"
    if len(lines) != 1 or not lines[0].startswith("chainfree: "):
        return f"{len(lines)} lines on standard error"
    return "something on standard output" if out else None


def in_process(*arguments: str) -> str | None:
    out, err = io.StringIO(), io.StringIO()
    before = set(Path("runs").glob("*"))
    try:
        # as in a process of its own: a warning is a line on standard error
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
            warnings.resetwarnings()
            warnings.simplefilter("ignore", DeprecationWarning)
            status = chainfree_main(list(arguments))
    except BaseException as error:
        return f"{type(error).__name__} left main"
    if set(Path("runs").glob("*")) != before:
        return "a run folder was left behind"
    return _judged(status, out.getvalue(), err.getvalue())


def in_a_process(*arguments: str) -> str | None:
    process = program(*arguments, folder=Path.cwd())
    out, err = process.communicate()
    return _judged(process.returncode, out, err)


def in_library(make: Callable[[], Any]) -> str | None:
    try:
        value = make()
    except (ValueError, TypeError) as error:
        return None if str(error) else "an error without a message"
    except TrainingDivergedError:
        return None
    except Exception as error:
        return f"{type(error).__name__} rather than ValueError or TypeError: {str(error).splitlines()[0]}"
    return f"accepted, and gave {type(value).__name__}"
