"""Maximum likelihood, for energies that are normalised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..checks import energy_values, log_prob_values
from ..typing import Energy, LossOutput

__all__ = ["MaximumLikelihood"]


@dataclass(frozen=True, kw_only=True)
class MaximumLikelihood:
    r"""The mean negative log-likelihood :math:`-\frac1B \sum_i \log p(x_i)`, in nats.

    An energy says that it is :math:`-\log p` itself by an attribute ``normalised`` that is ``True`` (flows:
    :class:`chainfree.energies.NICE`). One that only has a ``log_prob`` is asked for that. Any other is refused: without
    :math:`\log Z` its mean on the data falls without bound, and nothing would be learnt.

    >>> from chainfree.energies import Gaussian
    >>> MaximumLikelihood()(Gaussian([0.0]), torch.zeros(3, 1)).loss
    tensor(0.9189)
    """

    def __call__(self, energy: Energy, x: Tensor, /, *, generator: torch.Generator | None = None) -> LossOutput:
        """The scalar loss, with the same as the mean energy of the data for a metric.

        Raises:
            TypeError: the energy does not say that it is normalised.
            ContractError: its shape is not ``(B,)``.
        """
        loss = _negative_log_prob(energy, x).mean()
        return LossOutput(loss, {"loss": loss.detach(), "energy_data": loss.detach()})


def _negative_log_prob(energy: Any, x: Tensor) -> Tensor:
    # the attribute first: a compiled module is asked by its forward, as its log_prob is not compiled
    if getattr(energy, "normalised", False) is True:
        return energy_values(energy, x)
    if callable(getattr(energy, "log_prob", None)):
        return -log_prob_values(energy, x)
    raise TypeError(
        f"maximum likelihood needs a normalised energy, and {type(energy).__name__} does not say that it is one; train it "
        "by EnergyDiscrepancy, or set its attribute normalised = True if E = -log p"
    )
