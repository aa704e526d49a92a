"""The perceptron that every model of a table has."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..energies import TabularMLP
from ..tables import TableEncoder

__all__ = ["table_network"]


def table_network(
    encoder: TableEncoder,
    *,
    widths: Sequence[int],
    embedding: int,
    seed: int,
    outputs: int | None = None,
    with_hidden: bool = False,
) -> TabularMLP:
    """Of an encoder's rows; with first weights from a seed. Codes that no fitted row has are no vector of their own.

    Args:
        encoder: fitted or not.
        widths: of the layers.
        embedding: length of a category's vector.
        seed: of the weights.
        outputs: number of logits, or ``None`` for an energy.
        with_hidden: whether the known density of hidden numbers is added; not over a base that has it.
    """
    with torch.random.fork_rng(devices=[]):  # layers take their first weights from the global generator
        torch.manual_seed(seed)
        network = TabularMLP(
            encoder.sizes,
            states=encoder.states,
            with_hidden=with_hidden,
            embedding=embedding,
            width=tuple(widths),
            depth=len(widths),
            outputs=outputs,
        )
    if network.vectors is not None:
        # no training would move them, and at random they would say what nobody has seen
        with torch.no_grad():
            start = 0
            for column in encoder.columns:
                if column.size is not None:
                    network.vectors.weight[start + column.seen : start + column.size] = 0
                    start += column.size
    return network
