"""Energies made of energies: product of experts, mixture, tempering, tilting."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..checks import energy_values, log_prob_values, require_positive
from ..typing import Density, Energy
from .layers import full_precision, zero_last_layer_

__all__ = ["Mixture", "Sum", "Tempered", "Tilted"]


class _Plain(nn.Module):
    """A plain function as a module."""

    def __init__(self, function: Energy) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def _module(energy: Energy) -> nn.Module:
    return energy if isinstance(energy, nn.Module) else _Plain(energy)


class Sum(nn.Module):
    r"""Product of experts: :math:`E(x) = \sum_k a_k E_k(x)` (Hinton, 2002).

    Args:
        energies: the experts, at least one.
        weights: :math:`a_k`, ones by default.

    Raises:
        ValueError: no expert, or another number of weights.
    """

    def __init__(self, energies: Sequence[Energy], weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.weights = _checked_weights(energies, weights)
        self.energies = nn.ModuleList([_module(energy) for energy in energies])

    def forward(self, x: Tensor) -> Tensor:
        """Energy in nats, ``(B, *event) -> (B,)``."""
        terms = [a * energy_values(e, x) for a, e in zip(self.weights, self.energies, strict=True)]
        return torch.stack(terms).sum(dim=0)


class Mixture(nn.Module):
    r""":math:`E(x) = -\log \sum_k \pi_k e^{-E_k(x)}`.

    The components' shares of the mass are :math:`\pi_k Z_k`: equal to :math:`\pi_k` only where every component is
    normalised or all have the same partition function.

    Args:
        energies: the components, at least one.
        weights: :math:`\pi_k > 0`, scaled to sum to one; equal by default.

    Raises:
        ValueError: no component, another number of weights, a weight that is not positive.
    """

    def __init__(self, energies: Sequence[Energy], weights: Sequence[float] | None = None) -> None:
        super().__init__()
        given = _checked_weights(energies, weights)
        for weight in given:
            require_positive("weights", weight)
        self.energies = nn.ModuleList([_module(energy) for energy in energies])
        self.log_weights: Tensor
        self.register_buffer("log_weights", (torch.tensor(given) / sum(given)).log())

    def forward(self, x: Tensor) -> Tensor:
        """Energy in nats, ``(B, *event) -> (B,)``."""
        energies = torch.stack([energy_values(energy, x) for energy in self.energies])
        return -torch.logsumexp(self.log_weights.to(energies).unsqueeze(-1) - energies, dim=0)


class Tempered(nn.Module):
    r""":math:`E(x) / T`: the density to the power 1/T, flatter for T > 1.

    Args:
        energy: the energy.
        temperature: T, above 0.
    """

    def __init__(self, energy: Energy, temperature: float) -> None:
        super().__init__()
        require_positive("temperature", temperature)
        self.energy = _module(energy)
        self.temperature = temperature

    def forward(self, x: Tensor) -> Tensor:
        """Energy in nats, ``(B, *event) -> (B,)``."""
        return energy_values(self.energy, x) / self.temperature


class Tilted(nn.Module):
    r""":math:`E(x) = -\log p_0(x) + f(x)`: a base density corrected by a network that starts at zero.

    Training starts from the base instead of from noise, and its tails make the model integrable: a perceptron grows at
    most linearly and a Gaussian's energy quadratically, so :math:`Z < \infty` whatever the weights.

    Args:
        base: any object with ``log_prob``: an analytic energy, a fitted scikit-learn mixture through
            :meth:`chainfree.energies.GaussianMixture.from_sklearn`. Its parameters are not trained. One that is no
            ``nn.Module`` is neither saved nor moved with the energy.
        network: its last linear or convolutional layer is set to zero.

    Raises:
        TypeError: the base has no ``log_prob``.
        ValueError: the network has no layer that could be zero.

    >>> from chainfree.energies import MLP, Gaussian
    >>> base = Gaussian([0.0, 0.0])
    >>> tilted, x = Tilted(base, MLP(dim=2)), torch.randn(4, 2)
    >>> torch.equal(tilted(x), -base.log_prob(x))
    True
    """

    def __init__(self, base: Density, network: nn.Module) -> None:
        super().__init__()
        if not callable(getattr(base, "log_prob", None)):
            raise TypeError(f"base must be a density with log_prob(x), got a {type(base).__name__}")
        if isinstance(base, nn.Module):
            base.requires_grad_(False)
        zero_last_layer_(network)
        self.base = base
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Energy in nats, ``(B, *event) -> (B,)``."""
        with full_precision(x):
            log_base = log_prob_values(self.base, x)
        return energy_values(self.network, x) - log_base


def _checked_weights(energies: Sequence[Energy], weights: Sequence[float] | None) -> list[float]:
    given = [1.0] * len(energies) if weights is None else list(weights)
    if not energies or len(given) != len(energies):
        raise ValueError(f"{len(energies)} energies need as many weights, and at least one; got {weights!r}")
    return given
