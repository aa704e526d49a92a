"""Flow contrastive estimation: the noise is a flow that learns to look like the energy, and so like the data.

Gao, Nijkamp, Kingma, Xu, Dai, Wu, "Flow Contrastive Estimation of Energy-Based Models", CVPR 2020, arXiv 1912.00589.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from ..checks import energy_values, log_prob_values
from ..functional.noise_contrastive import noise_contrast
from ..generators.flows import Flow
from ..typing import Batch, Energy, Update
from .noise_contrastive import noise_contrastive_update
from .parameters import trainable

__all__ = ["FlowContrastive", "FlowGoal"]

FlowGoal = Literal["adversarial", "likelihood"]
"""What the flow learns: to be taken for data, or the data's likelihood."""


class FlowContrastive(nn.Module):
    r"""Tell data from draws of a flow that learns beside the energy.

    .. math::
        V = E_p \log\frac{p_E}{p_E + q} + E_q \log\frac{q}{p_E + q}, \quad p_E(x) = e^{-E(x) - c}

    The energy and c maximise V, as in noise-contrastive estimation; the flow minimises it by draws that carry its
    gradient (``adversarial``, the paper's): V is at most twice the Jensen-Shannon divergence less 2 log 2, and equal to
    it where the energy is the data's, so the flow approaches the data as far as the energy is right; or it learns the
    data's likelihood from the same batches (``likelihood``), which does not depend on the energy.

    Players in the order of their turns: ``energy`` (with c), ``flow``.

    Args:
        flow: q, best fitted to the data first; its parameters' gradients are switched on, which :func:`chainfree.fit_flow`
            has switched off.
        goal: of the flow.
        log_z: c at the start.

    Raises:
        ValueError: an unknown goal.
    """

    def __init__(self, flow: Flow, *, goal: FlowGoal = "adversarial", log_z: float = 0.0) -> None:
        super().__init__()
        if goal not in get_args(FlowGoal):
            raise ValueError(f"goal must be {' or '.join(map(repr, get_args(FlowGoal)))}, got {goal!r}")
        self.flow = flow.requires_grad_()
        self.goal = goal
        self.log_z = Parameter(torch.tensor(float(log_z)))

    def players(self, energy: nn.Module, /) -> Mapping[str, Sequence[Parameter]]:
        """The energy with log Z, the flow."""
        own = [self.log_z] if self.log_z.requires_grad else []
        return {"energy": [*trainable(energy), *own], "flow": trainable(self.flow)}

    def updates(self, energy: Energy, batch: Batch, step: int, generator: torch.Generator) -> Iterator[Update]:
        """The turns of one round, over the same draws."""
        learns = self.goal == "adversarial"
        with torch.set_grad_enabled(learns and torch.is_grad_enabled()):
            drawn = self.flow.rsample(len(batch), generator=generator).to(batch.x)
        rows = torch.cat([batch.x, drawn.detach()])
        with torch.no_grad():
            log_noise = log_prob_values(self.flow, rows)
        yield noise_contrastive_update(energy, rows, log_noise, self.log_z, ratio=1)
        loss = self._game_value(energy, batch.x, drawn) if learns else -log_prob_values(self.flow, batch.x).mean()
        yield Update("flow", loss, {"flow_loss": loss.detach()})

    def _game_value(self, energy: Energy, x: Tensor, drawn: Tensor) -> Tensor:
        """V under the energy as it is now, with its graph through draws and density."""
        log_flow = log_prob_values(self.flow, torch.cat([x, drawn]))
        values = torch.cat([self._data_energies(energy, x), energy_values(energy, drawn)])
        data, noise = (-values - self.log_z.detach() - log_flow).split([len(x), len(drawn)])
        return -noise_contrast(data, noise, ratio=1)

    @staticmethod
    @torch.no_grad()
    def _data_energies(energy: Energy, x: Tensor) -> Tensor:
        """No graph: nothing that the flow could change."""
        return energy_values(energy, x)
