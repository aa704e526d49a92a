"""Where the methods of :mod:`chainfree.experiments.nice_mnist` start from: the same for all of them, and made of data."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..energies import NICE
from ..energies.layers import Activation
from ..generators import LatentGenerator, LinearGenerator, MLPGenerator

__all__ = ["CentredNICE", "PrincipalGenerator"]

_START = 0.1  # of the perceptron's last layer, against its usual scale


class CentredNICE(NICE):
    """NICE of x less the mean of the data, with a standard start: every z has the base's mean and deviation on the data.

    Logits of mostly black images are far from zero, all in one direction, which a perceptron sees as one huge feature: every
    method then learns slowly or not at all. A shift leaves volumes and with them the likelihood as they are.

    Args:
        x: rows to start from, ``(N, dim)``.
        couplings: at least two.
        width, depth, activation: see :class:`chainfree.energies.NICE`.
    """

    def __init__(self, x: Tensor, *, couplings: int, width: int, depth: int, activation: Activation) -> None:
        super().__init__(x.shape[1], couplings=couplings, width=width, depth=depth, activation=activation)
        self.mean: Tensor
        self.register_buffer("mean", x.mean(0))
        self._start(x)

    def transform(self, x: Tensor) -> Tensor:
        """To the base's space, ``(B, dim) -> (B, dim)``."""
        return super().transform(x - self.mean)

    def inverse(self, z: Tensor) -> Tensor:
        """Back from the base's space, ``(B, dim) -> (B, dim)``."""
        return super().inverse(z) + self.mean

    @torch.no_grad()
    def _start(self, x: Tensor) -> None:
        """The last two couplings' biases take the means off, one part each; ``log_scale`` does the rest."""
        first = (self.dim + 1) // 2
        for index in (len(self.shifts) - 2, len(self.shifts) - 1):
            mean = self.transform(x).mean(0)
            _last_layer(self.shifts[index]).bias.sub_(mean[:first] if index % 2 == 1 else mean[first:])
        logistic = math.pi / math.sqrt(3)
        # dequantised pixels always vary; other rows may not
        self.log_scale.copy_((logistic / self.transform(x).std(0).clamp_min(1e-6)).log())


def _last_layer(perceptron: nn.Module) -> nn.Linear:
    assert isinstance(perceptron, nn.Sequential)
    last = perceptron[-1]
    assert isinstance(last, nn.Linear)
    return last


class PrincipalGenerator(LatentGenerator):
    r""":math:`g(z) = b + Wz + h(z)`: principal components that are trained on, and a perceptron h that starts small.

    Args:
        x: rows that W, b and σ are fitted to at the start, ``(N, dim)``.
        latent_dim: components.
        width, depth: of h.
        sigma_bounds: see :class:`chainfree.generators.LatentGenerator`; σ starts at the components' own, or at the nearer
            bound.
    """

    def __init__(
        self, x: Tensor, latent_dim: int, *, width: int, depth: int, sigma_bounds: tuple[float, float]
    ) -> None:
        start = LinearGenerator.pca(x, latent_dim)
        sigma = min(max(float(start.sigma.detach()), sigma_bounds[0]), sigma_bounds[1])
        super().__init__(latent_dim, (x.shape[1],), sigma=sigma, sigma_bounds=sigma_bounds)
        self.linear = nn.Linear(latent_dim, x.shape[1])
        self.perceptron = MLPGenerator(latent_dim, x.shape[1], width=width, depth=depth).layers
        last = _last_layer(self.perceptron)
        with torch.no_grad():
            self.linear.weight.copy_(start.weight)
            self.linear.bias.copy_(start.bias)
            last.weight.mul_(_START)
            last.bias.zero_()

    def forward(self, z: Tensor) -> Tensor:
        """The mean, ``(B, latent_dim) -> (B, dim)``."""
        mean: Tensor = self.linear(z) + self.perceptron(z)
        return mean
