"""Virtual adversarial training: a classifier that does not change its mind nearby, per sample.

Miyato, Maeda, Koyama, Ishii, "Virtual Adversarial Training: A Regularization Method for Supervised and Semi-Supervised
Learning", IEEE TPAMI 41(8), 2019, arXiv 1704.03976.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..checks import require_positive, require_positive_int

__all__ = ["adversarial_direction", "virtual_adversarial_divergence"]


def virtual_adversarial_divergence(
    logits: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    radius: float,
    probe: float = 1e-2,
    steps: int = 1,
    clean: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r""":math:`KL(p(\cdot \mid x) \,\Vert\, p(\cdot \mid x + r))` for the r of length ε that changes the classes most.

    r is the direction of the largest curvature of that divergence at x, found by the power method. p(. | x) is held: no
    gradient goes through it.

    Args:
        logits: ``(B, *event) -> (B, K)``.
        x: rows, ``(B, *event)``, floats.
        radius: ε, in units of the data, over all features of a row.
        probe: length that derivatives are taken at, large against rounding: small against ε for the curvature at x itself,
            up to ε for the change of the classes at that distance.
        steps: of the power method.
        clean: the logits at x, if they are known: one forward pass less.
        generator: source of randomness for the first direction.

    Returns:
        ``(B,)``, in nats, with a graph to the parameters.

    Raises:
        ValueError: ``radius`` or ``probe`` not above 0, ``steps`` below 1.
    """
    require_positive("radius", radius)
    require_positive("probe", probe)
    require_positive_int("steps", steps)
    if clean is None:
        with torch.no_grad():
            clean = logits(x)
    log_probs = torch.log_softmax(clean.detach(), dim=1)
    direction = adversarial_direction(logits, x, log_probs, probe=probe, steps=steps, generator=generator)
    return _divergence(log_probs, logits(x.detach() + radius * direction))


def adversarial_direction(
    logits: Callable[[Tensor], Tensor],
    x: Tensor,
    log_probs: Tensor,
    *,
    probe: float,
    steps: int,
    generator: torch.Generator | None,
) -> Tensor:
    """Directions of length 1 for every row, ``(B, *event)``; zero where the classes do not change at all.

    Args:
        log_probs: of the classes at ``x``, ``(B, K)``; see :func:`virtual_adversarial_divergence` for the others.
    """
    direction = _unit(torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype))
    for _ in range(steps):
        moved = (x.detach() + probe * direction).requires_grad_()
        with torch.enable_grad():
            divergence = _divergence(log_probs, logits(moved)).sum()
        (gradient,) = torch.autograd.grad(divergence, moved)
        direction = _unit(gradient)
    return direction.detach()


def _divergence(log_probs: Tensor, logits: Tensor) -> Tensor:
    others = torch.log_softmax(logits, dim=1)
    return (log_probs.exp() * (log_probs - others)).sum(1)


def _unit(x: Tensor) -> Tensor:
    """Rows of length 1, however small they were."""
    flat = x.flatten(1)
    flat = flat / flat.abs().amax(1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)
    length = flat.square().sum(1, keepdim=True).sqrt()
    return (flat / length.clamp_min(torch.finfo(x.dtype).tiny)).view_as(x)
