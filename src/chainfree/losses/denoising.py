"""Denoising score matching as a training loss.

Vincent, "A Connection Between Score Matching and Denoising Autoencoders", Neural Computation 23, 2011. That a feature's
kurtosis should set its noise is the idea of Livernoche, Zan, Rabbany, "Kurtosis-Guided Denoising Score Matching for Tabular
Anomaly Detection", 2026, arXiv 2605.06955; the rule here is our own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import require_finite, require_floats, require_positive
from ..functional.denoising import denoising_score_matching
from ..typing import Energy, LossOutput

__all__ = ["DenoisingScoreMatching", "kurtosis_scales"]


@dataclass(frozen=True, kw_only=True)
class DenoisingScoreMatching:
    r"""Mean over the batch of :func:`chainfree.functional.denoising_score_matching`.

    With one scale it learns the density of the data under noise of that scale. The energy must be smooth (not ReLU), and not
    compiled: ``torch.compile`` has no second derivatives.

    Args:
        scale: σ, standard deviation of the noise in units of the data; one for all features or one for each, see
            :func:`kurtosis_scales`.
        spread: many scales: every row's is multiplied by a factor from 1 to this, uniform in its logarithm. An energy that
            does not know the scale then learns no density exactly, but an average of scores whose small scales count where
            data are and whose large ones count far away.
        target_scale: see :func:`chainfree.functional.denoising_score_matching`.
        antithetic: see there; two evaluations of the energy a row, worth it for small scales.

    Raises:
        ValueError: a scale that is not above 0, or a spread below 1.
    """

    scale: float | tuple[float, ...] = 0.1
    spread: float = 1.0
    target_scale: float | None = None
    antithetic: bool = True

    def __post_init__(self) -> None:
        for value in self.scale if isinstance(self.scale, tuple) else (self.scale,):
            require_positive("scale", value)
        if not 1 <= self.spread < math.inf:
            raise ValueError(f"spread is the largest scale over the smallest, at least 1, got {self.spread!r}")
        if self.target_scale is not None:
            require_positive("target_scale", self.target_scale)

    def __call__(self, energy: Energy, x: Tensor, /, *, generator: torch.Generator | None = None) -> LossOutput:
        """The scalar loss, with the mean energy of the noised rows as a metric.

        Raises:
            ValueError: another number of scales than the rows have features.
            ContractError: see :func:`chainfree.functional.denoising_score_matching`.
        """
        require_floats(x, "denoising score matching")
        terms = denoising_score_matching(
            energy,
            x,
            self._scales(x, generator),
            target_scale=self.target_scale,
            antithetic=self.antithetic,
            generator=generator,
        )
        loss = terms.values.mean()
        return LossOutput(loss, {"loss": loss.detach(), "energy_noised": terms.noised_energy.detach().mean()})

    def _scales(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Broadcastable to ``x``."""
        if isinstance(self.scale, tuple):
            if x.shape[1:] != (len(self.scale),):
                raise ValueError(f"{len(self.scale)} scales for rows of shape {tuple(x.shape[1:])}; give one a feature")
            scales = torch.as_tensor(self.scale, device=x.device, dtype=x.dtype)
        else:
            scales = torch.full((), self.scale, device=x.device, dtype=x.dtype)
        if self.spread == 1:
            return scales
        u = torch.rand(len(x), generator=generator, device=x.device, dtype=x.dtype)
        return scales * torch.exp(math.log(self.spread) * u).view(-1, *[1] * (x.dim() - 1))


def kurtosis_scales(x: Tensor, scale: float, *, power: float = -0.25) -> tuple[float, ...]:
    r"""A noise scale for every feature, :math:`\sigma_d = \sigma\, s_d\, (\kappa_d / 3)^p`, by its spread and its kurtosis.

    A heavy-tailed feature has its standard deviation from its tails, and most of its rows in a core far narrower. Of normals
    whose scales vary log-normally, the median scale is just :math:`s (\kappa/3)^{-1/4}`, hence the default power.

    Args:
        x: rows, ``(N, D)``.
        scale: σ, for a normal feature of standard deviation 1.
        power: p; 0 for the standard deviations alone, positive for more noise where tails are heavy.

    Raises:
        ValueError: rows that are no finite table, or a constant feature.

    >>> round(kurtosis_scales(torch.tensor([[-1.0], [1.0]]), 0.1)[0], 4)  # a coin has the least kurtosis, 1
    0.1316
    """
    require_positive("scale", scale)
    if x.dim() != 2:
        raise ValueError(f"x must be rows of shape (N, D), got {tuple(x.shape)}")
    require_finite("x", x)
    rows = x.detach().double()
    deviation = rows - rows.mean(0)
    variance = deviation.square().mean(0)
    # of a constant, rounding leaves a little
    constant = variance <= (10 * torch.finfo(rows.dtype).eps * rows.abs().amax(0)).square()
    if bool(constant.any()):
        raise ValueError(f"feature {int(constant.nonzero()[0])} is constant; drop it")
    kurtosis = deviation.pow(4).mean(0) / variance.square()
    return tuple((scale * variance.sqrt() * (kurtosis / 3) ** power).tolist())
