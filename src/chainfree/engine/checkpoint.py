"""Checkpoints: one file holds all that a run needs to go on as if nothing had happened."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from .atomic import replacing

__all__ = [
    "CheckpointError",
    "latest_checkpoint",
    "load_checkpoint",
    "load_weights",
    "save_checkpoint",
    "save_weights",
]

FORMAT = 2
_NAME = re.compile(r"step-(\d+)\.pt")


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged, or belongs to another run."""


def save_checkpoint(folder: Path, state: dict[str, Any], *, step: int, keep: int = 2) -> Path:
    """Write ``step-<step>.pt`` atomically, then drop all but the newest ``keep``.

    Args:
        folder: made if it is not there.
        state: tensors, numbers, strings, lists and dicts only, so that it loads without unpickling code.
        step: rounds done.
        keep: at least 1.
    """
    path = folder / f"step-{step:09d}.pt"
    with replacing(path) as temporary:
        torch.save({"format": FORMAT, **state}, temporary)
    for old in _checkpoints(folder)[:-keep]:
        if old != path:  # later ones are not ours, and no reason to lose this one
            old.unlink(missing_ok=True)
    # as large as a checkpoint, and left by every kill in mid-write
    for unfinished in folder.glob(".step-*.pt.*.tmp"):
        unfinished.unlink(missing_ok=True)
    return path


def require_none_later(folder: Path, step: int) -> None:
    """Raise ``ValueError`` if the folder has a checkpoint beyond ``step``.

    New ones would count as older than it: dropped at once, and never the latest.
    """
    for path in _checkpoints(folder)[-1:]:
        latest = _step(path)
        if latest > step:
            raise ValueError(
                f"{folder} has a checkpoint of step {latest}, this run is at step {step}; resume from it, or give this run "
                "another folder"
            )


def latest_checkpoint(folder: Path) -> Path:
    """The checkpoint with the highest step.

    Raises:
        CheckpointError: there is none.
    """
    found = _checkpoints(folder)
    if not found:
        raise CheckpointError(f"no checkpoint in {folder}; start the training anew")
    return found[-1]


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint on the CPU, without running any code it may hold.

    Raises:
        CheckpointError: missing, damaged, or of another format.
    """
    remedy = "delete it to go on from the one before"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"no checkpoint at {path}") from error
    except (
        Exception
    ) as error:  # of damaged bytes torch raises whatever it stumbles over, IndexError and AssertionError too
        raise CheckpointError(f"{path} is damaged or no chainfree checkpoint; {remedy}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{path} is no chainfree checkpoint of format {FORMAT}; {remedy}")
    return state


def save_weights(path: Path, module: torch.nn.Module) -> None:
    """Write a module's parameters and buffers as safetensors, atomically."""
    tensors = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in module.state_dict().items()
    }
    with replacing(path) as temporary:
        save_file(tensors, temporary)


def load_weights(path: Path, module: torch.nn.Module) -> None:
    """Load safetensors into a module of the same shape.

    Raises:
        CheckpointError: missing, damaged, or of another shape.
    """
    try:
        module.load_state_dict(load_file(path))
    except FileNotFoundError as error:
        raise CheckpointError(f"no weights at {path}; train the run to its end first") from error
    except Exception as error:  # safetensors' error class derives from Exception alone
        reason = (str(error).splitlines() or [type(error).__name__])[
            -1
        ].strip()  # torch's first line names no parameter
        raise CheckpointError(f"{path} does not fit the energy in config.toml or is damaged: {reason}") from error


def _checkpoints(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if _NAME.fullmatch(path.name)), key=_step)


def _step(path: Path) -> int:
    return int(path.stem.removeprefix("step-"))
