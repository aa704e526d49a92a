"""The learned Stein discrepancy as a game between an energy and a critic.

Grathwohl, Wang, Jacobsen, Duvenaud, Zemel, "Learning the Stein Discrepancy for Training and Evaluating Energy-Based Models
without Sampling", ICML 2020, arXiv 2002.05616.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import nn
from torch.nn import Parameter

from ..checks import require_positive, require_positive_int
from ..functional.score_matching import rows_and_gradient
from ..functional.stein import field_and_divergence
from ..typing import Batch, Energy, Update
from .parameters import trainable

__all__ = ["LearnedStein"]


class LearnedStein(nn.Module):
    r"""A critic f, a vector field, finds where the energy's score is wrong; the energy mends it there.

    .. math::
        \max_f\; E_p[\nabla\cdot f - f\cdot\nabla E] - \lambda E_p|f|^2, \qquad \min_E\; -E_p[f\cdot\nabla E]

    Against the best critic the energy's gradient is :math:`1/2\lambda` times score matching's. No second derivative of the
    energy is taken. As all that sees scores at the data alone, it is blind to the weights of far modes.

    Players in the order of their turns: ``critic``, ``energy``.

    Args:
        critic: f, ``(B, *event) -> (B, *event)``, smooth.
        penalty: λ.
        critic_steps: turns of the critic a round.
        probes: for the divergence, a backward pass through the critic each.

    Raises:
        ValueError: a setting out of its range.
    """

    def __init__(self, critic: nn.Module, *, penalty: float = 0.5, critic_steps: int = 5, probes: int = 1) -> None:
        super().__init__()
        require_positive("penalty", penalty)
        require_positive_int("critic_steps", critic_steps)
        require_positive_int("probes", probes)
        self.critic = critic
        self.penalty = penalty
        self.critic_steps = critic_steps
        self.probes = probes

    def players(self, energy: nn.Module, /) -> Mapping[str, Sequence[Parameter]]:
        """The critic, the energy."""
        return {"critic": trainable(self.critic), "energy": trainable(energy)}

    def updates(self, energy: Energy, batch: Batch, step: int, generator: torch.Generator) -> Iterator[Update]:
        """The turns of one round."""
        # taken once: no turn before the energy's moves the energy
        _, values, gradient = rows_and_gradient(energy, batch.x, "the Stein discrepancy")
        slope = gradient.detach()
        for _ in range(self.critic_steps):
            field, divergence = field_and_divergence(self.critic, batch.x, probes=self.probes, generator=generator)
            drift = -(field * slope).flatten(1).sum(1)
            discrepancy = (drift + divergence - self.penalty * field.flatten(1).square().sum(1)).mean()
            yield Update("critic", -discrepancy, {"discrepancy": discrepancy.detach()})
        with torch.no_grad():
            found = self.critic(batch.x)
        loss = -(found * gradient).flatten(1).sum(1).mean()
        yield Update("energy", loss, {"energy_data": values.detach().mean()})
