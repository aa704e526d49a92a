"""Who owns which parameter."""

from __future__ import annotations

from torch import nn
from torch.nn import Parameter

__all__ = ["trainable"]


def trainable(module: nn.Module) -> list[Parameter]:
    """The parameters that have gradients switched on."""
    return [p for p in module.parameters() if p.requires_grad]
