"""Parts that the networks share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm as _spectral_norm

from ..checks import require_positive_int

__all__ = ["Activation", "Head", "activation_layer", "full_precision", "normed", "zero_last_layer_"]

Activation = Literal["silu", "gelu", "softplus", "relu", "leaky_relu", "tanh", "elu"]

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "softplus": nn.Softplus,
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
    "tanh": nn.Tanh,
    "elu": nn.ELU,
}

Layer = TypeVar("Layer", bound=nn.Module)


def activation_layer(name: str) -> nn.Module:
    """The activation of that name.

    Raises:
        ValueError: no such activation; the message lists them.
    """
    if name not in _ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(_ACTIVATIONS)}, got {name!r}")
    return _ACTIVATIONS[name]()


def normed(layer: Layer, spectral_norm: bool) -> Layer:
    """The layer, with its weight's largest singular value held at one where asked for (Miyato et al., 2018)."""
    if spectral_norm:
        _spectral_norm(layer)  # in place: it parametrises the weight
    return layer


def full_precision(x: Tensor) -> torch.autocast:
    """Switch autocast off: bf16 has three digits, too few for phases, log-densities and the energy's last sum."""
    return torch.autocast(x.device.type, enabled=False)


class Head(nn.Linear):
    """A network's last layer, in full precision: one energy a row, or K logits.

    It sets the energy's scale, so no norm binds it.

    Args:
        features: of a row.
        outputs: K, or ``None`` for an energy.

    Raises:
        ValueError: ``outputs`` below 1.
    """

    def __init__(self, features: int, outputs: int | None = None) -> None:
        if outputs is not None:
            require_positive_int("outputs", outputs)
        super().__init__(features, 1 if outputs is None else outputs)
        self.outputs = outputs

    def forward(self, features: Tensor) -> Tensor:
        """``(B, features)`` to ``(B,)``, or to ``(B, K)``."""
        with full_precision(features):
            values = super().forward(features.float() if features.dtype == torch.bfloat16 else features)
        return values.squeeze(-1) if self.outputs is None else values


def zero_last_layer_(network: nn.Module) -> None:
    """Set the last linear or convolutional layer (in order of registration) to zero, so the network starts as E = 0.

    Raises:
        ValueError: the network has no such layer, or its last one is spectrally normed and cannot be zero.
    """
    layers = [m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    if not layers:
        raise ValueError(f"{type(network).__name__} has no linear or convolutional layer to start at zero")
    last = layers[-1]
    if nn.utils.parametrize.is_parametrized(last, "weight"):
        raise ValueError("the last layer is spectrally normed and cannot start at zero; leave the norm off there")
    with torch.no_grad():
        last.weight.zero_()
        if last.bias is not None:
            last.bias.zero_()
