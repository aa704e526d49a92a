"""An energy made of density ratios, from noise to data step by step.

Rhodes, Xu, Gutmann, "Telescoping Density-Ratio Estimation", NeurIPS 2020, arXiv 2006.12204.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..checks import energy_values, log_prob_values
from ..typing import Density
from .layers import full_precision, zero_last_layer_

__all__ = ["Telescope"]


class Telescope(nn.Module):
    r""":math:`E(x) = -\log q(x) + \sum_{k=1}^m f_k(x)`, each :math:`-f_k` the log-ratio of two neighbours on a path.

    The path's waymarks lead from the data, :math:`p_0`, to the noise, :math:`p_m = q`; :math:`-f_k` estimates
    :math:`\log p_{k-1} - \log p_k`. Each is an easy question where their sum is a hard one, and each is normalised by
    itself, so log Z is near zero. Train by :class:`chainfree.losses.TelescopingRatios`.

    Args:
        noise: q; its parameters are not trained, and their gradients are switched off.
        bridges: the :math:`f_k`, networks whose last layer is set to zero, in order from the data to the noise.

    Raises:
        TypeError: the noise has no density.
        ValueError: no bridge, or one without a layer that could be zero.
    """

    def __init__(self, noise: Density, bridges: Sequence[nn.Module]) -> None:
        super().__init__()
        if not isinstance(noise, Density):
            raise TypeError(f"noise must be a density with log_prob and sample, got a {type(noise).__name__}")
        if not bridges:
            raise ValueError("a telescope needs at least one bridge, got none")
        if isinstance(noise, nn.Module):
            noise.requires_grad_(False)
        for bridge in bridges:
            zero_last_layer_(bridge)
        self.noise = noise
        self.bridges = nn.ModuleList(bridges)

    def forward(self, x: Tensor) -> Tensor:
        """Energy in nats, ``(B, *event) -> (B,)``."""
        with full_precision(x):
            energy = -log_prob_values(self.noise, x)
        for bridge in self.bridges:
            energy = energy + energy_values(bridge, x)
        return energy
