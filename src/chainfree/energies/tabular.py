"""A perceptron over rows of numbers and categories."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..checks import ContractError, require_positive_int, require_rows
from .layers import Activation
from .mlp import MLP

__all__ = ["TabularMLP"]


class TabularMLP(nn.Module):
    r"""A perceptron that sees numbers as they are and categories as learned vectors.

    A number may be hidden, since it is missing or at a value that has mass of its own: then a column of codes is not 0 in
    that row, the number itself is a draw from the standard normal, and the perceptron does not see it. Its
    :math:`\tfrac12 v^2 + \tfrac12 \log 2\pi` is added to the energy (and taken from all logits), so that :math:`e^{-E}` is
    the density of what is there times that of the draws.

    Args:
        columns: for every column of the rows ``None`` if it holds a number, or S if it holds codes 0, 1, ..., S - 1.
        states: which column of codes says whether a number is hidden, by the number's place; as
            :attr:`chainfree.tables.TableEncoder.states`.
        with_hidden: whether hidden numbers' density is added. Not where a base has it, as
            :class:`TabularMixture` does.
        embedding: length of a category's vector.
        width, depth, activation, outputs: as in :class:`MLP`. Energy discrepancy takes no gradient in the rows, so corners do
            no harm, and rectified units leave the plateau that smooth ones start on many times sooner.

    Raises:
        ValueError: no columns, a size below 1, an unknown activation, or states that are no number's or no codes.

    >>> energy = TabularMLP([None, 3, None])
    >>> energy(torch.tensor([[0.2, 2.0, -1.0], [0.5, 0.0, 0.1]])).shape
    torch.Size([2])
    """

    sizes: Tensor
    offsets: Tensor
    few: Tensor
    few_values: Tensor
    few_once: Tensor
    many: Tensor

    def __init__(
        self,
        columns: Sequence[int | None],
        *,
        states: Mapping[int, int] = {},
        with_hidden: bool = True,
        embedding: int = 4,
        width: int | Sequence[int] = 256,
        depth: int = 3,
        activation: Activation = "relu",
        outputs: int | None = None,
    ) -> None:
        super().__init__()
        if not columns:
            raise ValueError("columns is empty; give None for each number and the number of values for each category")
        require_positive_int("embedding", embedding)
        sizes = [size for size in columns if size is not None]
        for size in sizes:
            require_positive_int("the number of values of a column", size)
        for number, state in states.items():
            known = {number, state} <= set(range(len(columns)))
            if not known or columns[number] is not None or (columns[state] or 0) < 2:
                raise ValueError(f"states are of numbers, by columns of at least two codes, got {number}: {state}")
        self.dim = len(columns)
        self.with_hidden = with_hidden
        self.may_hide, self.states = list(states), list(states.values())
        self.numbers = [place for place, size in enumerate(columns) if size is None]
        self.codes = [place for place, size in enumerate(columns) if size is not None]
        self.register_buffer("sizes", torch.tensor(sizes, dtype=torch.long))
        # all columns' vectors in one table, one after the other
        self.register_buffer("offsets", torch.tensor([0, *sizes[:-1]], dtype=torch.long).cumsum(0)[: len(sizes)])
        self.vectors = nn.Embedding(sum(sizes), embedding) if sizes else None
        # a column of at most as many values as its vectors have entries stands here once for each value but the first
        pairs = [(place, value) for place, size in enumerate(sizes) if size <= embedding for value in range(1, size)]
        few = [place for place, _ in pairs]
        indices = {
            "few": few,
            "few_values": [value for _, value in pairs],
            "few_once": list(dict.fromkeys(few)),
            "many": [place for place in range(len(sizes)) if place not in few],
        }
        for name, index in indices.items():
            self.register_buffer(name, torch.tensor(index, dtype=torch.long), persistent=False)
        self.perceptron = MLP(
            len(self.numbers) + embedding * len(sizes), width=width, depth=depth, activation=activation, outputs=outputs
        )

    def forward(self, x: Tensor) -> Tensor:
        """Energy in nats, ``(B, D) -> (B,)``, or logits, ``(B, K)``.

        Raises:
            ContractError: rows of another shape, or, where rows are on the CPU, a code that is none of its column's.
        """
        require_rows(x, (self.dim,), next(self.perceptron.parameters()))
        of_hidden = None
        if self.states:
            hidden = x[:, self.states] != 0
            if self.with_hidden:
                normal = 0.5 * x[:, self.may_hide].square() + 0.5 * math.log(2 * math.pi)
                of_hidden = torch.where(hidden, normal, 0.0).sum(1)
            shown = x.clone()
            shown[:, self.may_hide] = torch.where(hidden, 0.0, x[:, self.may_hide])
            x = shown
        values = self._inputs_to_first_layer(x)
        for layer in list(self.perceptron.layers)[1:]:
            values = layer(values)
        if of_hidden is None:
            return values
        return values + of_hidden if values.dim() == 1 else values - of_hidden.unsqueeze(1)

    def _inputs_to_first_layer(self, x: Tensor) -> Tensor:
        """What the first layer makes of numbers and vectors side by side, ``(B, width)``.

        The layer is linear in a column's vector, and that in the indicators of its values: where these are fewer than a
        vector's entries the product is with them, by weights that are made once for all rows. A table of binary columns is
        several times cheaper so.
        """
        first = self.perceptron.layers[0]
        assert isinstance(first, nn.Linear)
        if self.vectors is None:
            values: Tensor = first(x[:, self.numbers])
            return values
        codes = x[:, self.codes].long()
        if not codes.is_cuda:
            self._require(codes)
        of_numbers, of_codes = first.weight.tensor_split([len(self.numbers)], 1)
        of_codes = of_codes.unflatten(1, (len(self.codes), self.vectors.embedding_dim))
        inputs, weights, bias = [x[:, self.numbers]], [of_numbers], first.bias
        if len(self.many):
            inputs.append(self.vectors(codes[:, self.many] + self.offsets[self.many]).flatten(1))
            weights.append(of_codes[:, self.many].flatten(1))
        if len(self.few):
            inputs.append(codes[:, self.few] == self.few_values)
            start, table = self.offsets[self.few], self.vectors.weight
            weights.append((of_codes[:, self.few] * (table[start + self.few_values] - table[start])).sum(2))
            bias = bias + (of_codes[:, self.few_once] * table[self.offsets[self.few_once]]).sum((1, 2))
        return functional.linear(
            torch.cat([part.to(first.weight.dtype) for part in inputs], 1), torch.cat(weights, 1), bias
        )

    def _require(self, codes: Tensor) -> None:
        """In a table of all columns' vectors a wrong code would be another column's."""
        wrong = (codes < 0) | (codes >= self.sizes)
        if bool(wrong.any()):
            row, place = wrong.nonzero()[0].tolist()
            raise ContractError(
                f"column {self.codes[place]} has codes from 0 to {int(self.sizes[place]) - 1}, got "
                f"{int(codes[row, place])} in row {row}"
            )
