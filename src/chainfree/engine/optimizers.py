"""Optimizers and learning-rate schedules as plain records: what a config file says of them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import Parameter

from ..checks import require_in_unit_interval, require_non_negative, require_positive

__all__ = ["Constant", "Cosine", "OptimizerSettings", "ScheduleSettings"]


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """AdamW (Loshchilov and Hutter, 2019); with ``weight_decay=0``, the default, it is plain Adam.

    Args:
        lr: peak learning rate; the schedule scales it.
        betas: decay of the first and second moments, in [0, 1).
        eps: added to the denominator.
        weight_decay: decoupled from the gradient.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        require_positive("lr", self.lr)
        for beta in self.betas:
            require_in_unit_interval("betas", beta)
        require_positive("eps", self.eps)
        require_non_negative("weight_decay", self.weight_decay)

    def build(self, parameters: Sequence[Parameter]) -> torch.optim.Optimizer:
        """The torch optimizer; one fused kernel for all parameters where their type allows it."""
        fused = all(p.dtype in (torch.float32, torch.float64) for p in parameters)
        return torch.optim.AdamW(
            parameters,
            lr=self.lr,
            betas=self.betas,
            eps=self.eps,
            weight_decay=self.weight_decay,
            fused=fused,
        )


@dataclass(frozen=True, kw_only=True)
class ScheduleSettings(ABC):
    """A linear warm-up and then whatever the subclass says.

    Args:
        warmup: steps over which the rate rises from ``1/warmup`` of its peak.
    """

    warmup: int = 0

    def __post_init__(self) -> None:
        require_non_negative("warmup", self.warmup)
        if not isinstance(self.warmup, int):
            raise ValueError(f"warmup must be a whole number of steps, got {self.warmup!r}")

    def factor(self, step: int, total: int) -> float:
        """What the peak rate is multiplied by at ``step`` of ``total``: a pure function, so there is no state to save."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, total - self.warmup)
        return self._after_warmup(min(1.0, progress))

    @abstractmethod
    def _after_warmup(self, progress: float) -> float:
        """The factor when a share ``progress`` of the steps after the warm-up is done."""


@dataclass(frozen=True, kw_only=True)
class Constant(ScheduleSettings):
    """The peak rate throughout."""

    def _after_warmup(self, progress: float) -> float:
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Cosine(ScheduleSettings):
    """Half a cosine from the peak rate down to ``final`` times it.

    >>> round(Cosine(final=0.0).factor(500, 1000), 3)
    0.5
    """

    final: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_non_negative("final", self.final)
        if self.final > 1:
            raise ValueError(f"final is a share of the peak rate, at most 1, got {self.final!r}")

    def _after_warmup(self, progress: float) -> float:
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress))
