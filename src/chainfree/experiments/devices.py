"""Where an experiment trains."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["device_name", "require_device", "torch_device"]

_AUTO = "auto"  # an accelerator where there is one


def torch_device(name: str) -> torch.device:
    """The device that ``name`` says, ``"auto"`` or one of torch's."""
    if name != _AUTO:
        return torch.device(name)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    """What it is, as a result says it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def require_device(name: str, value: Any) -> None:
    """Raise ``ValueError`` unless something can be trained there."""
    if value == _AUTO:
        return
    try:
        torch.ones(1, device=value if isinstance(value, str) else "").item()  # meta tensors have no numbers
    except (RuntimeError, AssertionError) as error:  # a torch without CUDA asserts
        raise ValueError(f"{name} must be auto or a device of this machine, such as cpu, got {value!r}") from error
