"""The chains of persistent contrastive divergence: kept from one training step to the next, and in the checkpoint.

Tieleman, "Training restricted Boltzmann machines using approximations to the likelihood gradient", ICML 2008; with restarts
Du and Mordatch, "Implicit Generation and Modeling with Energy-Based Models", NeurIPS 2019, arXiv 1903.08689.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..checks import ContractError, require_finite, require_positive_int

__all__ = ["ReplayBuffer"]


class ReplayBuffer(nn.Module):
    """Chains that wait for their next steps: draw some, move them, put them back.

    The chains are a registered buffer, so ``state_dict`` holds them, ``.to`` moves them, and a resumed run goes on with the
    chains it was stopped with.

    Args:
        rows: where the chains start, ``(capacity, *event)``; copied.

    Raises:
        ValueError: there are no rows, they are no floats, or not finite.

    >>> buffer = ReplayBuffer(torch.zeros(100, 2))
    >>> index, rows = buffer.draw(8, generator=torch.Generator().manual_seed(0))
    >>> buffer.put(index, rows + 1.0)
    >>> buffer.chains.sum()
    tensor(16.)
    """

    chains: Tensor

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        if rows.dim() < 1 or not len(rows) or not rows.is_floating_point():
            raise ValueError(
                f"rows must be floats of shape (capacity, *event), got {tuple(rows.shape)} of {rows.dtype}; "
                "give one row for each chain to keep"
            )
        require_finite("rows", rows)
        self.register_buffer("chains", rows.detach().clone())

    def __len__(self) -> int:
        return len(self.chains)

    @torch.no_grad()
    def draw(
        self,
        n: int,
        *,
        fresh: Tensor | None = None,
        share: float = 0.05,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """``n`` different chains, some of which start anew.

        Args:
            n: chains, at most the capacity.
            fresh: where those that start anew do, ``(n, *event)``, one row for each drawn chain; without it none does.
            share: probability with which each drawn chain is replaced by its row of ``fresh``, from 0 to 1.
            generator: source of randomness on the device of the chains.

        Returns:
            The places of the chains, ``(n,)``, for :meth:`put`, and a copy of their rows, ``(n, *event)``. What the buffer
            holds changes in :meth:`put` alone.

        Raises:
            ValueError: more chains than there are, a share outside of [0, 1], or fresh rows of another shape.
        """
        require_positive_int("n", n)
        if n > len(self):
            raise ValueError(f"n must be at most the {len(self)} chains there are, got {n}; draw fewer or keep more")
        if isinstance(share, bool) or not 0 <= share <= 1:
            raise ValueError(f"share must be a probability from 0 to 1, got {share!r}")
        device = self.chains.device
        index = torch.randperm(len(self), generator=generator, device=device)[:n]
        rows = self.chains[index]
        if fresh is None:
            return index, rows
        if fresh.shape != rows.shape:
            raise ContractError(
                f"fresh must have one row for each drawn chain, {tuple(rows.shape)}, got {tuple(fresh.shape)}"
            )
        anew = torch.rand(n, generator=generator, device=device) < share
        return index, torch.where(anew.view(-1, *[1] * (rows.dim() - 1)), fresh.detach().to(rows), rows)

    @torch.no_grad()
    def put(self, index: Tensor, rows: Tensor) -> None:
        """Keep the moved ``rows``, ``(n, *event)``, at the places ``index``, ``(n,)``, of :meth:`draw`.

        Raises:
            ContractError: the rows are not as many as the places, or of another event shape.
        """
        if rows.shape != (*index.shape, *self.chains.shape[1:]):
            raise ContractError(
                f"put takes rows of shape {(*index.shape, *self.chains.shape[1:])}, got {tuple(rows.shape)}; "
                "move the rows that draw returned"
            )
        self.chains[index] = rows.detach().to(self.chains)
