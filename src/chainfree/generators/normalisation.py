"""Batch normalisation that can hold its statistics."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..checks import require_positive_int

__all__ = ["BatchNorm"]

_MOMENTUM = 0.1
_EPS = 1e-5


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe and Szegedy, 2015) over all axes but the second.

    In training mode it normalises by the batch, as usual. While ``held`` is set it normalises by the statistics of the
    batch before, as constants: passes that must see the very function that made the samples (a posterior's, whose
    batches are many times as large and differently distributed) do not disturb it. In evaluation mode it uses running
    averages; their variance is the unbiased one, as in torch.

    Args:
        features: length of the second axis.

    Raises:
        ValueError: ``features`` below 1, or in training mode a batch with one value a feature.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        require_positive_int("features", features)
        self.held = False
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.mean: Tensor
        self.variance: Tensor
        self.running_mean: Tensor
        self.running_variance: Tensor
        for name in ("mean", "running_mean"):
            self.register_buffer(name, torch.zeros(features))
        for name in ("variance", "running_variance"):
            self.register_buffer(name, torch.ones(features))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, scale and shift ``(B, features, ...)``."""
        if not self.training:
            mean, variance = self.running_mean, self.running_variance
        elif self.held:
            # copies: the buffers are overwritten before a backward pass may read them
            mean, variance = self.mean.clone(), self.variance.clone()
        else:
            axes = [0, *range(2, x.dim())]
            count = x.numel() // x.shape[1]
            if count < 2:  # it would return its bias, whatever x is
                raise ValueError(f"batch normalisation takes 2 values a feature or more, got {count}; use eval()")
            variance, mean = torch.var_mean(x, dim=axes, correction=0)
            self._remember(mean.detach(), variance.detach(), count)
        shape = [-1] + [1] * (x.dim() - 2)
        scale = self.weight * torch.rsqrt(variance + _EPS)
        return x * scale.view(shape) + (self.bias - mean * scale).view(shape)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: int) -> None:
        self.mean.copy_(mean)
        self.variance.copy_(variance)
        self.running_mean.lerp_(mean, _MOMENTUM)
        self.running_variance.lerp_(variance * (count / (count - 1)), _MOMENTUM)
