"""The command line."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jsonargparse import ArgumentParser

from .._version import __version__
from ..checks import ContractError
from ..datasets import DataError
from ..engine import CheckpointError, TrainingDivergedError
from .doctor import doctor
from .errors import UsageError
from .evaluate import evaluate, plot, score
from .recipes import recipes
from .sample import sample
from .table_tasks import impute, train_table
from .train import train

__all__ = ["main"]

_USAGE = """usage: chainfree COMMAND ...

commands:
  train CONFIG.toml | --data DATA ...   train an energy-based model; --resume RUN goes on with one
  train --data TABLE --task TASK        fit a table of text, numbers and holes for a task: outlier, density, classifier,
                                        impute or synthesize
  evaluate RUN                          held-out scores of a trained run
  score RUN DATA --out FILE.csv         energy of every row of new data; of a task, its own scores
  impute RUN DATA --out FILE.csv        a table's missing cells filled
  sample RUN --rows N --out FILE.csv    new rows, from a run of the method vera or of the tasks density and synthesize
  plot RUN                              draw a run's pictures again
  recipes [NAME]                        list the experiments, or run one
  doctor                                versions, devices, threads, data found

chainfree COMMAND --help says more."""

_FUNCTIONS: dict[str, Callable[..., int]] = {
    "evaluate": evaluate,
    "score": score,
    "impute": impute,
    "sample": sample,
    "plot": plot,
    "recipes": recipes,
    "doctor": doctor,
}

_RUN = "folder of a trained run"
_POSITIONAL = {
    "evaluate": {"run": _RUN},
    "score": {"run": _RUN, "data": "a table with the run's columns, or an .npy/.npz array of as many columns"},
    "impute": {"run": _RUN, "data": "a .csv, .csv.gz or .parquet file with the columns that were fitted"},
    "sample": {"run": _RUN},
    "plot": {"run": _RUN},
    "recipes": {"name": "a recipe that is an experiment; without it, all recipes are listed"},
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: without the program's name; the process's own by default.

    Returns:
        The exit status: 0; 2 when the input is at fault; 3 when training diverged; 128 plus a signal's number; 1 for a
        fault of the program itself.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _dispatch(given)
    except (UsageError, DataError, CheckpointError, ContractError, ArgumentError) as error:
        return _fail(str(error), status=2)
    except TrainingDivergedError as error:
        return _fail(str(error), status=3)
    except ImportError as error:
        return _fail(str(error), status=2)
    except BrokenPipeError:
        # the reader has seen enough: | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = "" if error.filename is None else f": {error.filename}"
        return _fail(f"{error.strerror or error}{where}; check the path, its permissions and the free space", status=2)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0  # argparse leaves so after --help
    except KeyboardInterrupt:
        return _fail("interrupted", status=130)
    except Exception as error:
        if _is_out_of_memory(error):
            return _fail(
                "not enough memory; lower --batch, --loss.draws, --vera.samples, --rows or the network's size", status=2
            )
        if os.environ.get("CHAINFREE_DEBUG"):
            raise
        return _fail(f"{type(error).__name__}: {error} (CHAINFREE_DEBUG=1 shows where)", status=1)


def _dispatch(given: list[str]) -> int:
    for argument in given:
        if "\0" in argument or _has_surrogates(argument):
            raise UsageError(f"{argument!r} is not valid text; write it in UTF-8")
    if not given:
        raise UsageError(f"what is to be done? There are train, {', '.join(_FUNCTIONS)}; chainfree --help says more")
    if given[0] in ("-h", "--help", "help"):
        print(_USAGE)  # noqa: T201
        return 0
    if given[0] in ("-V", "--version"):
        print(__version__)  # noqa: T201
        return 0
    command, rest = given[0], given[1:]
    if command == "train" and any(argument.partition("=")[0] == "--task" for argument in rest):
        return train_table(**_parsed("train", rest))
    if command == "train":
        return train(rest)
    if command not in _FUNCTIONS:
        raise UsageError(f"unknown command {command!r}; there are train, {', '.join(_FUNCTIONS)}")
    return _FUNCTIONS[command](**_parsed(command, rest))


def _parsed(command: str, rest: list[str]) -> dict[str, Any]:
    parser = ArgumentParser(prog=f"chainfree {command}", exit_on_error=False)
    positional = _POSITIONAL.get(command, {})
    for name, described in positional.items():
        parser.add_argument(name, help=described, nargs="?" if command == "recipes" else None)
    function = train_table if command == "train" else _FUNCTIONS[command]
    parser.add_function_arguments(function, None, as_positional=False, skip=set(positional))
    try:
        parsed: dict[str, Any] = parser.parse_args(rest).as_dict()
    except ArgumentError as error:
        raise UsageError(f"{error}; see chainfree {command} --help") from error
    return parsed


def _has_surrogates(text: str) -> bool:
    """Whether the terminal gave bytes that are not UTF-8: no config file could hold them."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def _is_out_of_memory(error: Exception) -> bool:
    # on the CPU torch raises a plain RuntimeError
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "allocate" in str(error)
    )


def _fail(message: str, *, status: int) -> int:
    print(f"chainfree: {' '.join(message.split())}", file=sys.stderr)  # noqa: T201
    return status
