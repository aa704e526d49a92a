"""A linear map plus a perceptron that starts small."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..checks import require_non_negative, require_positive
from ..energies.layers import Activation
from .base import LatentGenerator
from .mlp import MLPGenerator, start_near_zero_

__all__ = ["ResidualGenerator"]

_START = 0.1  # of the perceptron's last layer, against its usual scale


class ResidualGenerator(LatentGenerator):
    r""":math:`g(z) = A z + h(z)` with A of orthonormal columns or rows times s, and a perceptron h that starts near zero.

    At the start it is (nearly) a normal of standard deviation s, as wide as standardised data: a plain perceptron starts as
    a small blob, settles in the mode it meets first, and no gradient tells it of the others. The linear part also keeps
    the map from folding early on.

    Args:
        latent_dim: features of z. Beyond ``dim`` of them, some directions enter only through h.
        dim: features of a row.
        scale: s, in units of the data; 1 for standardised features.
        train_linear: learn A as well. Fixed, it keeps all latents in use; learned, it follows an energy's covariance sooner
            than h does.
        width, depth, activation: of h, as in :class:`MLPGenerator`.
        frequencies: random Fourier features of z that h sees beside z, as in :class:`chainfree.energies.FourierMLP`: many
            narrow modes need a map with steep steps between them, which a perceptron of z alone learns last.
        frequency_scale: their standard deviation in radians per unit of z.
        sigma, sigma_bounds: see :class:`LatentGenerator`.
        seed: of A, where ``latent_dim`` and ``dim`` differ (else it is the identity), and of the frequencies.

    >>> ResidualGenerator(latent_dim=2, dim=2).sample(5).x.shape
    torch.Size([5, 2])
    """

    def __init__(
        self,
        latent_dim: int,
        dim: int,
        *,
        scale: float = 1.0,
        train_linear: bool = False,
        width: int = 128,
        depth: int = 3,
        activation: Activation = "silu",
        frequencies: int = 0,
        frequency_scale: float = 4.0,
        sigma: float = 0.1,
        sigma_bounds: tuple[float, float] = (0.01, 0.3),
        seed: int = 0,
    ) -> None:
        super().__init__(latent_dim, (dim,), sigma=sigma, sigma_bounds=sigma_bounds)
        require_positive("scale", scale)
        require_positive("frequency_scale", frequency_scale)
        require_non_negative("frequencies", frequencies)
        inputs = latent_dim + 2 * frequencies
        self.perceptron = MLPGenerator(inputs, dim, width=width, depth=depth, activation=activation).layers
        self.frequencies: Tensor
        source = torch.Generator().manual_seed(seed)
        self.register_buffer("frequencies", frequency_scale * torch.randn(latent_dim, frequencies, generator=source))
        linear = scale * _orthonormal(latent_dim, dim, seed)
        self.linear: Tensor
        if train_linear:
            self.linear = nn.Parameter(linear)
        else:
            self.register_buffer("linear", linear)
        start_near_zero_(self.perceptron, _START)

    def forward(self, z: Tensor) -> Tensor:
        """The mean, ``(B, latent_dim) -> (B, dim)``."""
        phase = z @ self.frequencies
        features = torch.cat([z, phase.sin(), phase.cos()], dim=-1)
        mean: Tensor = z @ self.linear + self.perceptron(features)
        return mean


def _orthonormal(rows: int, columns: int, seed: int) -> Tensor:
    """A ``(rows, columns)`` matrix whose shorter side's vectors are orthonormal; the identity if it is square."""
    if rows == columns:
        return torch.eye(rows)
    normal = torch.randn(max(rows, columns), min(rows, columns), generator=torch.Generator().manual_seed(seed))
    basis, _ = torch.linalg.qr(normal)
    oriented: Tensor = basis if rows > columns else basis.T.contiguous()
    return oriented
