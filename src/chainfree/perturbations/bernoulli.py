"""Bernoulli perturbation of bits: each flips by chance.

Schroeder, Ou, Li, Duncan, "Training Discrete Energy-Based Models with Energy Discrepancy", 2023, arXiv 2307.07595.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .base import Perturbed
from .categories import require_codes

__all__ = ["Bernoulli"]


@dataclass(frozen=True, kw_only=True)
class Bernoulli:
    r"""Every bit flips with probability ``epsilon``, by itself; the reverse is the same.

    The heat kernel of two states after time :math:`-\log(1 - 2\epsilon)`.

    Args:
        epsilon: above 0 and at most a half, where nothing is left of the data.

    Raises:
        ValueError: ``epsilon`` out of its range.

    >>> Bernoulli(epsilon=0.5).perturb(torch.zeros(3, 2)).y.shape
    torch.Size([3, 2])
    """

    epsilon: float = 0.1

    def __post_init__(self) -> None:
        if isinstance(self.epsilon, bool) or not 0 < self.epsilon <= 0.5:
            raise ValueError(f"epsilon must be above 0 and at most 0.5, got {self.epsilon!r}")

    def perturb(self, x: Tensor, /, *, generator: torch.Generator | None = None) -> Perturbed:
        """Bits ``(B, *event)`` of 0 and 1.

        Raises:
            ContractError: others, where they are on the CPU.
        """
        require_codes(x, torch.tensor(2))
        return Perturbed(self._flip(x, x.shape, generator))

    def recover(self, perturbed: Perturbed, draws: int, /, *, generator: torch.Generator | None = None) -> Tensor:
        """Bits ``(draws, B, *event)``."""
        return self._flip(perturbed.y, (draws, *perturbed.y.shape), generator)

    def _flip(self, bits: Tensor, shape: tuple[int, ...] | torch.Size, generator: torch.Generator | None) -> Tensor:
        flipped = torch.rand(shape, generator=generator, device=bits.device) < self.epsilon
        return torch.where(flipped, 1 - bits, bits)
