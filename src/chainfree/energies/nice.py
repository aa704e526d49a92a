"""A flow of additive couplings, whose energy is normalised.

Dinh, Krueger, Bengio, "NICE: Non-linear Independent Components Estimation", ICLR 2015 workshop, arXiv 1410.8516.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import require_positive_int, require_rows
from .layers import Activation, activation_layer

__all__ = ["NICE"]

Base = Literal["logistic", "normal"]
Partition = Literal["parity", "half"]


def _logistic(z: Tensor) -> Tensor:
    # -log sigmoid(z) - log sigmoid(-z) by one logarithm; written with |z| it would have no curvature at zero
    return z - 2 * F.logsigmoid(z)


def _normal(z: Tensor) -> Tensor:
    return 0.5 * z.square() + 0.5 * math.log(2 * math.pi)


_BASE_ENERGIES: dict[str, Callable[[Tensor], Tensor]] = {"logistic": _logistic, "normal": _normal}


class NICE(nn.Module):
    r"""Additive couplings and a diagonal scale: :math:`E(x) = -\sum_d \log p_0(z_d) - \sum_d s_d`, exactly normalised.

    The features are split into two parts, and each coupling shifts one by a perceptron of the other,
    :math:`b \leftarrow b + m(a)`, in turns; then :math:`z_d = e^{s_d} h_d`. Shifts keep volumes, so the log-determinant is
    :math:`\sum_d s_d` whatever the perceptrons are, in half precision too, and sampling costs what the energy does. One
    smooth shape cannot tear: separate modes stay joined by thin bridges.

    Args:
        dim: features of a row, at least 2.
        couplings: how often a part is shifted; from 2 on, every feature is.
        width: units of a hidden layer.
        depth: hidden layers of each perceptron.
        activation: smooth ones give energies with a usable gradient and Laplacian.
        base: law of every :math:`z_d`, the standard logistic or normal.
        partition: features of even and odd index, or the first and second half.

    Raises:
        ValueError: a size out of its range, an unknown activation, base or partition.

    >>> NICE(dim=4, width=16, depth=1)(torch.zeros(5, 4)).shape
    torch.Size([5])
    """

    normalised = True

    def __init__(
        self,
        dim: int,
        *,
        couplings: int = 4,
        width: int = 128,
        depth: int = 2,
        activation: Activation = "softplus",
        base: Base = "logistic",
        partition: Partition = "parity",
    ) -> None:
        super().__init__()
        for name, value in [("dim", dim), ("couplings", couplings), ("width", width), ("depth", depth)]:
            require_positive_int(name, value)
        if dim < 2:
            raise ValueError(f"couplings need two parts, so dim must be at least 2, got {dim!r}")
        if base not in get_args(Base):
            raise ValueError(f"base must be one of {', '.join(get_args(Base))}, got {base!r}")
        if partition not in get_args(Partition):
            raise ValueError(f"partition must be one of {', '.join(get_args(Partition))}, got {partition!r}")
        self.dim = dim
        self.base = base
        self.partition = partition
        first, second = (dim + 1) // 2, dim // 2
        sizes = [(first, second) if index % 2 == 0 else (second, first) for index in range(couplings)]
        self.shifts = nn.ModuleList(_perceptron(inputs, outputs, width, depth, activation) for inputs, outputs in sizes)
        self.log_scale = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Energy in nats, ``(B, dim) -> (B,)``; it is minus the log-density."""
        z = self.transform(x)
        return _BASE_ENERGIES[self.base](z).sum(dim=-1) - self.log_scale.sum()

    def log_prob(self, x: Tensor, /) -> Tensor:
        """Log-density in nats, ``(B, dim) -> (B,)``."""
        energy: Tensor = self(x)
        return -energy

    def transform(self, x: Tensor) -> Tensor:
        """To the base's space, ``(B, dim) -> (B, dim)``: the parts side by side, the first one first."""
        require_rows(x, (self.dim,), self.log_scale)
        # the parts stay apart from end to end: nothing is masked, scattered or copied between couplings
        moved, other = self._parts(x)
        for shift in self.shifts:
            moved, other = other + shift(moved), moved
        first, second = (moved, other) if len(self.shifts) % 2 == 0 else (other, moved)
        return torch.cat([first, second], dim=-1) * self.log_scale.exp()

    def inverse(self, z: Tensor) -> Tensor:
        """Back from the base's space, ``(B, dim) -> (B, dim)``."""
        require_rows(z, (self.dim,), self.log_scale)
        first, second = (z * (-self.log_scale).exp()).tensor_split([(self.dim + 1) // 2], dim=-1)
        moved, other = (first, second) if len(self.shifts) % 2 == 0 else (second, first)
        for shift in reversed(self.shifts):
            moved, other = other, moved - shift(other)
        if self.partition == "half":
            return torch.cat([moved, other], dim=-1)
        x = torch.empty_like(z)
        x[:, ::2], x[:, 1::2] = moved, other
        return x

    @torch.no_grad()
    def sample(self, n: int, /, *, generator: torch.Generator | None = None) -> Tensor:
        """``n`` independent draws, ``(n, dim)``."""
        like = self.log_scale
        if self.base == "normal":
            z = torch.randn(n, self.dim, generator=generator, device=like.device, dtype=like.dtype)
        else:
            # in float64: uniforms of 24 bits would cut the tails off, and an exact zero would be infinite
            u = torch.rand(n, self.dim, generator=generator, device=like.device, dtype=torch.float64)
            z = u.clamp_(min=2**-54).logit_().to(like.dtype)
        return self.inverse(z)

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.partition == "parity":
            return x[:, ::2], x[:, 1::2]
        return x[:, : (self.dim + 1) // 2], x[:, (self.dim + 1) // 2 :]


def _perceptron(inputs: int, outputs: int, width: int, depth: int, activation: str) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(inputs, width), activation_layer(activation)]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))
