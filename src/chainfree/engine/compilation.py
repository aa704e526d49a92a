"""torch.compile as an option that can fail without taking the run with it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..checks import energy_values
from ..typing import Energy

__all__ = ["compiled_or_eager"]


def compiled_or_eager(
    energy: nn.Module, probe: Tensor, autocast: Callable[[], AbstractContextManager[Any]] = nullcontext
) -> tuple[Energy, str | None]:
    """Compile the energy's forward and backward, tried once on ``probe``; the network is left as it was.

    Args:
        energy: the network.
        probe: a batch, ``(B, *event)``.
        autocast: makes the context that training evaluates energies in: another precision is another compilation.

    Returns:
        The compiled energy and ``None``, or the energy itself and why it could not be compiled.

    Raises:
        Exception: whatever the energy itself raises in eager mode: that is no problem of the compiler's.
    """
    buffers = {name: buffer.clone() for name, buffer in energy.named_buffers()}
    try:
        with autocast():
            energy_values(energy, probe)
        compiled = cast(Energy, torch.compile(energy, dynamic=True))
        try:
            with autocast():
                values = energy_values(compiled, probe)
            values.sum().backward()
        except Exception as error:  # the compiler chains any exception of its backend, the C++ compiler's included
            return energy, f"torch.compile failed ({_reason(error)}); going on in eager mode, slower but equal"
    finally:
        energy.zero_grad(set_to_none=True)
        # batch and spectral norms move theirs in every forward pass, and a resumed run would be tried once more
        with torch.no_grad():
            for name, buffer in energy.named_buffers():
                buffer.copy_(buffers[name])
    return compiled, None


def _reason(error: Exception) -> str:
    # torch's wrapper says in its first line only which backend it was
    inner = getattr(error, "inner_exception", error)
    return (str(inner).strip().splitlines() or [type(inner).__name__])[0]
