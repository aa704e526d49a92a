"""``chainfree doctor``: what this machine has."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil

import torch

from ..datasets import DataError, data_dir
from .tables import text_table

__all__ = ["doctor"]

_PACKAGES = ("chainfree", "torch", "numpy", "scikit-learn", "scipy", "safetensors", "jsonargparse", "tqdm")
_EXTRAS = {
    "matplotlib": "plot",
    "pandas": "tables",
    "pyarrow": "tables",
    "tensorboard": "tensorboard",
    "zuko": "flows",
    "POT": "transport",
    "torchmetrics": "images",
}


def doctor() -> int:
    """Print versions, devices, threads, and the data sets found."""
    rows = [["python", platform.python_version()]]
    rows += [[name, importlib.metadata.version(name)] for name in _PACKAGES]
    rows += [[name, _version(name, extra)] for name, extra in _EXTRAS.items()]
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    rows.append(["processor", f"{os.cpu_count()} cores, {torch.get_num_threads()} threads in use"])
    rows.append(
        ["accelerator", "none" if accelerator is None else f"{accelerator} x {torch.accelerator.device_count()}"]
    )
    compiler = next((c for c in ("c++", "g++", "clang++") if shutil.which(c)), None)
    rows.append(["torch.compile", "ready" if compiler else "no C++ compiler: --compile will fall back"])
    rows.append(["data", _data()])
    print(text_table(["what", "found"], rows))  # noqa: T201
    return 0


def _version(name: str, extra: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return f"missing: pip install 'chainfree[{extra}]'"


def _data() -> str:
    try:
        folder = data_dir()
    except DataError as error:
        return str(error)
    if folder is None:
        return "CHAINFREE_DATA is not set; images will be downloaded, tables must be given as files"
    names = sorted(path.name for path in folder.iterdir())
    return f"{folder}: {', '.join(names) if names else 'empty'}"
