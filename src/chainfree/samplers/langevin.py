"""Unadjusted Langevin steps."""

from __future__ import annotations

import torch
from torch import Tensor

from ..checks import require_non_negative, require_positive, require_positive_int
from ..typing import Energy
from .gradients import MinusEnergy, value_and_gradient

__all__ = ["langevin"]


@torch.no_grad()
def langevin(
    energy: Energy,
    x: Tensor,
    *,
    steps: int,
    step_size: float,
    noise: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""T steps :math:`x \leftarrow x - \tfrac h2 \nabla E(x) + s\, n` with standard normal n, no step rejected.

    With :math:`s = \sqrt h` they approximate :math:`p \propto e^{-E}`, with a bias of order h that no number of steps
    removes: of a standard normal their stationary law is :math:`N(0, 1/(1 - h/4))`, and from :math:`h = 4` on they explode.
    Where that matters use :mod:`chainfree.samplers.mala`. Roberts and Tweedie, "Exponential convergence of Langevin
    distributions and their discrete approximations", Bernoulli 2(4), 1996.

    Args:
        energy: ``(B, *event) -> (B,)``, in nats.
        x: where to start, ``(B, *event)``; left as it is.
        steps: T, one forward and backward pass each.
        step_size: h, in squared units of the data.
        noise: s, in units of the data; :math:`\sqrt h` by default, 0 for gradient descent. Any other value samples another
            temperature, :math:`s^2/h` to first order, as JEM and short-run chains do.
        generator: source of randomness on the device of ``x``.

    Returns:
        Where the steps ended, ``(B, *event)``, a new tensor without a graph.

    Raises:
        ValueError: a setting out of its range.
        ContractError: the energy's shape is not ``(B,)`` or it has no gradient in the rows.

    >>> langevin(lambda x: 0.5 * x.square().sum(1), torch.ones(1, 1), steps=2, step_size=1.0, noise=0.0)
    tensor([[0.2500]])
    """
    require_positive_int("steps", steps)
    require_positive("step_size", step_size)
    if noise is not None:
        require_non_negative("noise", noise)
    log_density = MinusEnergy(energy)
    size = x.new_full((), step_size)
    spread = size.sqrt() if noise is None else x.new_full((), noise)
    for _ in range(steps):
        _, gradient = value_and_gradient(log_density, x)
        x = torch.addcmul(x, size, gradient, value=0.5)
        if noise != 0:
            x.addcmul_(spread, torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype))
    return x
