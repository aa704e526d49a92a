"""Logits that another term of the same turn has computed already."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import logit_values
from ..energies.classifier import JointEnergy

__all__ = ["Overheard"]


class Overheard:
    """Listens to a joint energy's network while the marginal's loss is made, for the logits of given rows.

    With all rows labelled, the density and the classes are learnt from the same rows, and a pass through the network is most
    of what a step costs. Only a pass over these very rows, their memory and not a copy, with a graph is kept. A compiled
    energy is not listened to, for a hook would break its graph.
    """

    def __init__(self, energy: JointEnergy, rows: Tensor) -> None:
        self._energy, self._rows = energy, rows
        self._logits: Tensor | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While this lasts, the last such pass is kept."""
        self._logits = None
        if hasattr(self._energy, "_orig_mod"):
            yield
            return
        handle = self._energy.network.register_forward_hook(self._hear)
        try:
            yield
        finally:
            handle.remove()

    @property
    def heard(self) -> bool:
        """Whether there was such a pass."""
        return self._logits is not None

    def logits(self) -> Tensor:
        """Of the rows, ``(B, K)``: what was heard, or else a pass of their own."""
        heard, self._logits = self._logits, None
        if heard is None:
            return self._energy.logits(self._rows)
        return logit_values(lambda _: heard, self._rows, self._energy.classes)

    def _hear(self, network: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        rows = given[0]
        same = isinstance(rows, Tensor) and rows.shape == self._rows.shape and rows.data_ptr() == self._rows.data_ptr()
        if same and isinstance(output, Tensor) and output.requires_grad and torch.is_grad_enabled():
            self._logits = output
