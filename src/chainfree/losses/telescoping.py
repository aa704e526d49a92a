"""Telescoping density-ratio estimation as a training loss.

Rhodes, Xu, Gutmann, "Telescoping Density-Ratio Estimation", NeurIPS 2020, arXiv 2006.12204.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import energy_values, require_floats, require_positive
from ..energies.telescope import Telescope
from ..functional.noise_contrastive import noise_contrast
from ..typing import Energy, LossOutput

__all__ = ["TelescopingRatios"]


@dataclass(frozen=True, kw_only=True)
class TelescopingRatios:
    r"""The sum of the bridges' logistic losses, each telling one waymark from the next.

    .. math:: x_k = \sqrt{1 - \alpha_k^2}\, x + \alpha_k\, n, \quad \alpha_k = (k/m)^a, \quad n \sim q

    Every datum keeps its n along the whole path, as in the paper.

    Args:
        power: a; above 1 puts more waymarks near the data, where neighbours are easier to tell apart.

    Raises:
        ValueError: ``power`` is not above 0.
    """

    power: float = 1.0

    def __post_init__(self) -> None:
        require_positive("power", self.power)

    def __call__(self, energy: Energy, x: Tensor, /, *, generator: torch.Generator | None = None) -> LossOutput:
        """The scalar loss in nats, with that of the bridge whose ends are told apart most easily as a metric.

        Raises:
            TypeError: the energy is no :class:`chainfree.energies.Telescope`.
        """
        telescope = getattr(energy, "_orig_mod", energy)  # of a compiled one the bridges, as they are
        if not isinstance(telescope, Telescope):
            raise TypeError(f"telescoping ratios train a chainfree.energies.Telescope, got a {type(energy).__name__}")
        require_floats(x, "telescoping")
        with torch.no_grad():
            noise = telescope.noise.sample(len(x), generator=generator).to(x)
        count = len(telescope.bridges)
        alphas = [(k / count) ** self.power for k in range(count + 1)]
        waymarks = [(1 - alpha**2) ** 0.5 * x + alpha * noise for alpha in alphas]
        losses = []
        for k, bridge in enumerate(telescope.bridges):
            near, far = (-energy_values(bridge, torch.cat(waymarks[k : k + 2]))).split(len(x))
            losses.append(noise_contrast(near, far, ratio=1.0))
        every = torch.stack(losses)
        loss = every.sum()
        return LossOutput(loss, {"loss": loss.detach(), "least_bridge_loss": every.detach().amin()})
