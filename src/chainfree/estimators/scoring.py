"""What networks say of encoded rows, of each by itself whatever rows stand beside it."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..tables import TableEncoder
from ..typing import Energy

__all__ = ["energies_of", "in_blocks"]

_BLOCK = 2048


@torch.no_grad()
def in_blocks(function: Callable[[Tensor], Tensor], rows: Tensor, device: torch.device) -> Tensor:
    """Of rows ``(N, D)`` the values ``(N, ...)``, float64 on the CPU.

    Rows go through in blocks of one size, the last filled up: matrix products of other sizes round in other ways, and a row
    would have another value alone than among others.
    """
    parts = []
    for part in rows.split(_BLOCK):
        block = part if len(part) == _BLOCK else torch.cat([part, part[:1].expand(_BLOCK - len(part), -1)])
        parts.append(function(block.to(device))[: len(part)].double().cpu())
    return torch.cat(parts)


def energies_of(energy: Energy, rows: Tensor, encoder: TableEncoder, device: torch.device) -> Tensor:
    """Energies without what is known of hidden numbers, in nats, ``(N, D) -> (N,)``."""
    values = in_blocks(energy, rows, device)
    filler = rows[:, list(encoder.states)].double()
    of_hidden = 0.5 * filler.square() + 0.5 * math.log(2 * math.pi)
    return values - torch.where(encoder.hidden(rows), of_hidden, 0.0).sum(1)
