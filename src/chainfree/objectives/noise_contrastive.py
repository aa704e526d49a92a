"""Noise-contrastive estimation with noise that stays as it is.

Gutmann and Hyvarinen, "Noise-Contrastive Estimation of Unnormalized Statistical Models", JMLR 13, 2012.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from ..checks import energy_values, log_prob_values, require_positive_int
from ..functional.noise_contrastive import noise_contrast
from ..typing import Batch, Density, Energy, Update
from .parameters import trainable

__all__ = ["NoiseContrastive"]


class NoiseContrastive(nn.Module):
    r"""Tell data from noise of a known density q, with the log-density ratio :math:`-E(x) - \log Z - \log q(x)`.

    .. math::
        -E_p \log\sigma(r(x) - \log\nu) - \nu\, E_q \log\sigma(\log\nu - r(y)), \quad r(x) = -E(x) - c - \log q(x)

    c is a parameter: it ends at log Z, so the energy is normalised for free. It moves by about a learning rate a step, so
    start it near its end: an energy that is tilted from a normalised density has log Z near 0. The noise decides how
    well: where it seldom is, or never looks like data, nothing is learnt. A density fitted to the data serves best
    (:func:`chainfree.fit_flow`, a Gaussian mixture).

    One player, ``energy``: its parameters and c.

    Args:
        noise: q; its parameters are not trained, and their gradients are switched off.
        ratio: ν, rows of noise for each of data.
        log_z: c at the start, in nats.

    Raises:
        TypeError: the noise has no density or no draws.
        ValueError: ``ratio`` below 1.
    """

    def __init__(self, noise: Density, *, ratio: int = 1, log_z: float = 0.0) -> None:
        super().__init__()
        require_positive_int("ratio", ratio)
        if not isinstance(noise, Density):
            raise TypeError(f"noise must be a density with log_prob and sample, got a {type(noise).__name__}")
        if isinstance(noise, nn.Module):
            noise.requires_grad_(False)
        self.noise = noise
        self.ratio = ratio
        self.log_z = Parameter(torch.tensor(float(log_z)))

    def players(self, energy: nn.Module, /) -> Mapping[str, Sequence[Parameter]]:
        """The energy, with log Z."""
        own = [self.log_z] if self.log_z.requires_grad else []
        return {"energy": [*trainable(energy), *own]}

    def updates(self, energy: Energy, batch: Batch, step: int, generator: torch.Generator) -> Iterator[Update]:
        """One turn a round."""
        with torch.no_grad():
            noise = self.noise.sample(self.ratio * len(batch), generator=generator).to(batch.x)
            rows = torch.cat([batch.x, noise])
            log_noise = log_prob_values(self.noise, rows)
        yield noise_contrastive_update(energy, rows, log_noise, self.log_z, self.ratio)


def noise_contrastive_update(energy: Energy, rows: Tensor, log_noise: Tensor, log_z: Tensor, ratio: int) -> Update:
    """The energy's turn, for rows of data and then ``ratio`` times as many of noise."""
    count = len(rows) // (1 + ratio)
    values = energy_values(energy, rows)
    data, noise = (-values - log_z - log_noise).split([count, ratio * count])
    loss = noise_contrast(data, noise, ratio=ratio)
    metrics = {
        "loss": loss.detach(),
        "energy_data": values[:count].detach().mean(),
        "energy_noise": values[count:].detach().mean(),
        "log_z": log_z.detach().clone(),  # it changes in place
    }
    return Update("energy", loss, metrics)
