"""Means of metrics between two log records, without a sync in between."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["MetricSums"]


class MetricSums:
    """Adds 0-d tensors up where they live; the host sees them only when :meth:`means` is asked."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, metrics: Mapping[str, Tensor]) -> None:
        """Note one update's metrics."""
        for name, value in metrics.items():
            so_far = self._sums.get(name)
            # a copy: the value may be a parameter's memory, which the next step changes
            self._sums[name] = value.clone() if so_far is None else so_far + value
            self._counts[name] = self._counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        """Means since the last call: one device-to-host sync for all of them."""
        if not self._sums:
            return {}
        names = list(self._sums)
        values = torch.stack([self._sums[name].float() / self._counts[name] for name in names]).tolist()
        self.clear()
        return dict(zip(names, values, strict=True))

    def clear(self) -> None:
        """Forget what was added."""
        self._sums, self._counts = {}, {}

    def state_dict(self) -> dict[str, Any]:
        """Sums and counts so far, so that a record means the same after a resume in mid-interval."""
        return {"sums": dict(self._sums), "counts": dict(self._counts)}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Take up saved sums, on a device."""
        self._sums = {name: value.to(device) for name, value in state["sums"].items()}
        self._counts = dict(state["counts"])
