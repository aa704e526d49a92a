"""What a perturbation has to offer."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

__all__ = ["Perturbation", "Perturbed"]


class Perturbed(NamedTuple):
    """A perturbed batch.

    Args:
        y: what is left of the data, ``(B, ...)``.
        scale: whatever was drawn per datum and is needed to go back (a noise scale, say), broadcastable to ``y``.
    """

    y: Tensor
    scale: Tensor | None = None


class Perturbation(Protocol):
    r"""A kernel :math:`q(y \mid x)` that loses information, and the draw that goes back.

    ``recover`` must draw from :math:`r(x' \mid y) = q(y \mid x') / \int q(y \mid u)\,du`. If the normaliser depends on
    ``y`` it adds a constant in the energy, so any kernel with an exact reverse draw gives a valid loss.
    """

    def perturb(self, x: Tensor, /, *, generator: torch.Generator | None = None) -> Perturbed:
        r"""Draw :math:`y_i \sim q(y \mid x_i)` for every row of ``(B, *event)``."""
        ...

    def recover(self, perturbed: Perturbed, draws: int, /, *, generator: torch.Generator | None = None) -> Tensor:
        r"""Draw :math:`x'_{ij} \sim r(x' \mid y_i)`, independent given ``y``, shape ``(draws, B, *event)``."""
        ...
