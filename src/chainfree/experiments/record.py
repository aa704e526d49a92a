"""Results as JSON files that say which command made them, with which versions and on which machine."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..engine.atomic import write_text

__all__ = ["Recorder", "commit", "sources"]

_PACKAGES = ("chainfree", "torch", "numpy", "scikit-learn", "scipy")


def commit() -> str:
    """The commit of the working folder, with ``+changes`` where files differ from it."""
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "--", ":!results"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+changes" if dirty.stdout.strip() else "")


@dataclass
class Recorder:
    """Times an experiment from its making on and writes what came out.

    Args:
        name: of the file, ``<folder>/<name>.json``.
        command: that runs the experiment again.
        folder: where results go.
        seeds: of the experiment.
    """

    name: str
    command: str
    folder: Path
    seeds: Sequence[int]
    _started: float = field(default_factory=time.perf_counter, init=False)
    # of the code that was loaded, whatever is committed while it runs
    _commit: str = field(default_factory=commit, init=False)

    def write(self, figures: Mapping[str, Any], *, packages: Sequence[str] = ()) -> Path:
        """Write the figures; ``packages`` are named beside chainfree's own.

        Raises:
            ValueError: a figure is NaN or infinite: that is no result.
        """
        _require_finite(figures, self.name)
        record = {
            "command": self.command,
            "commit": self._commit,
            "machine": _machine(),
            "threads": torch.get_num_threads(),
            "versions": {
                "python": platform.python_version(),
                **{p: importlib.metadata.version(p) for p in (*_PACKAGES, *packages)},
            },
            "seeds": list(self.seeds),
            "seconds": round(time.perf_counter() - self._started, 1),
            "figures": figures,
        }
        path = self.folder / f"{self.name}.json"
        write_text(path, json.dumps(record, indent=2) + "\n")
        return path


def sources() -> str:
    """A digest of this package's source files and of the versions that results depend on."""
    digest = hashlib.sha256()
    root = Path(__file__).parents[1]
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    versions = [platform.python_version(), *(importlib.metadata.version(p) for p in _PACKAGES)]
    return hashlib.sha256(digest.digest() + " ".join(versions).encode()).hexdigest()


def _require_finite(value: Any, where: str) -> None:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _require_finite(inner, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            _require_finite(inner, f"{where}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} is {value!r}, which is no result")


def _machine() -> str:
    cores = f"{torch.get_num_interop_threads()} cores"
    cpuinfo = Path("/proc/cpuinfo")
    model = platform.processor() or platform.machine()
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        if names:
            model, cores = names[0], f"{len(names)} cores"
    return f"{model}, {cores}, {platform.system()}"
