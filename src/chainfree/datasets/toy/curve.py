"""Curves in the plane blurred by Gaussian noise: moons, two spirals, swiss roll."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ...checks import require_positive

__all__ = ["NoisyCurve", "moons", "swiss_roll", "two_spirals"]

# rows x nodes at a time: 2^22 float32 are 16 MiB
_ELEMENTS_AT_A_TIME = 1 << 22


class NoisyCurve(nn.Module):
    r"""A point on a curve plus :math:`N(0, s^2 I)`.

    No closed form exists; :math:`p(x) = \int N(x; c(u), s^2 I)\,\pi(u)\,du` is integrated by the midpoint rule over nodes
    a small fraction of ``s`` apart, and the draws use the same nodes. The density is thus *exactly* the one that is drawn
    from (a fine mixture), and that of the continuous curve to the accuracy of the rule.

    Args:
        nodes: midpoints of the curve's pieces, ``(K, 2)``.
        weights: of the nodes, ``(K,)``, scaled to sum to one; equal by default.
        noise: :math:`s`, in the units of ``nodes``.
    """

    dim = 2

    def __init__(self, nodes: Tensor, *, noise: float, weights: Tensor | None = None) -> None:
        super().__init__()
        require_positive("noise", noise)
        weights = torch.ones(len(nodes)) if weights is None else weights
        self.nodes: Tensor
        self.noise: Tensor
        self.shares: Tensor
        self.register_buffer("nodes", nodes)
        self.register_buffer("noise", torch.tensor(float(noise), dtype=nodes.dtype))
        # float64: 2,048 shares cumulated
        self.register_buffer("shares", weights.double() / weights.double().sum())

    def log_prob(self, x: Tensor, /) -> Tensor:
        """Log-density in nats, ``(B, 2) -> (B,)``."""
        rows = max(1, _ELEMENTS_AT_A_TIME // len(self.nodes))
        return torch.cat([self._log_prob(part) for part in x.split(rows)])

    def _log_prob(self, x: Tensor) -> Tensor:
        variance = self.noise.double().square()
        # |x - c|^2 expanded: a matrix product instead of a (B, K, 2) array, in float64 against cancellation
        x64, nodes = x.double(), self.nodes.double()
        distance = x64.square().sum(-1, keepdim=True) - 2 * x64 @ nodes.T + nodes.square().sum(-1)
        log_kernel = -distance / (2 * variance) - (2 * math.pi * variance).log()
        return torch.logsumexp(log_kernel + self.shares.double().log(), dim=-1).to(x.dtype)

    def sample(self, n: int, /, *, generator: torch.Generator | None = None) -> Tensor:
        """``n`` independent draws, ``(n, 2)``."""
        u = torch.rand(n, generator=generator, device=self.nodes.device, dtype=torch.float64)
        which = torch.searchsorted(self.shares.double().cumsum(0), u, right=True).clamp_(max=len(self.nodes) - 1)
        noise = torch.randn(n, 2, generator=generator, device=self.nodes.device, dtype=self.nodes.dtype)
        return self.nodes[which] + self.noise * noise


def _midpoints(n: int) -> Tensor:
    return (torch.arange(n, dtype=torch.float64) + 0.5) / n


def moons(*, noise: float = 0.2) -> NoisyCurve:
    """Two interleaved half circles of radius 2 (scikit-learn's ``make_moons`` at twice the scale, centred)."""
    angle = math.pi * _midpoints(512)
    upper = torch.stack([angle.cos(), angle.sin()], dim=-1)
    lower = torch.stack([1 - angle.cos(), 0.5 - angle.sin()], dim=-1)
    nodes = 2 * (torch.cat([upper, lower]) - torch.tensor([0.5, 0.25], dtype=torch.float64))
    return NoisyCurve(nodes.float(), noise=noise)


def two_spirals(*, noise: float = 0.1) -> NoisyCurve:
    """Two spiral arms of one and a half turns, radius 0 to 3.14; the centre is dense, the ends are thin."""
    angle = 3 * math.pi * _midpoints(1024)
    arm = torch.stack([-angle.cos() * angle, angle.sin() * angle], dim=-1) / 3
    # the angle is 3 pi sqrt(u) with u uniform, so its density is proportional to itself
    return NoisyCurve(torch.cat([arm, -arm]).float(), noise=noise, weights=torch.cat([angle, angle]))


def swiss_roll(*, noise: float = 0.2) -> NoisyCurve:
    """The rolled sheet of scikit-learn's ``make_swiss_roll`` seen along its axis, a fifth of the size."""
    angle = 1.5 * math.pi * (1 + 2 * _midpoints(2048))
    return NoisyCurve((torch.stack([angle * angle.cos(), angle * angle.sin()], dim=-1) / 5).float(), noise=noise)
