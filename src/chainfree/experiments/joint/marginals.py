"""The ways in which a joint energy learns the density of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ...checks import require_in_unit_interval, require_non_negative, require_positive, require_positive_int
from ...energies import Gaussian as MultivariateNormal
from ...generators import ConvCritic, DeconvGenerator, LatentGenerator, MLPCritic, MLPGenerator
from ...losses import DenoisingScoreMatching, EnergyDiscrepancy
from ...objectives import MEG, VERA, PersistentContrastiveDivergence
from ...perturbations import Gaussian
from ...samplers import Chain, ReplayBuffer
from ...typing import Loss, Objective

__all__ = ["KNOWN", "Marginal", "MarginalSettings"]

_NARROWEST = 1e-3  # of a column that is constant up to rounding
_ROUNDING = 1e-3  # of a column that was standardised

Marginal = Literal["none", "energy_discrepancy", "denoising", "vera", "meg", "sgld"]

_GAME = frozenset(
    {
        "latent",
        "generator_width",
        "generator_channels",
        "entropy_weight",
        "gradient_penalty",
        "penalty_every",
        "sigma_bounds",
    }
)
KNOWN: dict[str, frozenset[str]] = {
    "none": frozenset(),
    "energy_discrepancy": frozenset({"noise", "draws"}),
    "denoising": frozenset({"noise"}),
    "vera": _GAME | {"entropy_samples", "energy_square"},
    "meg": _GAME | {"energy_square"},
    "sgld": frozenset({"chain_steps", "step_size", "chain_noise", "restarts", "buffer", "energy_square"}),
}
"""The settings that each training of the marginal takes."""


@dataclass(frozen=True, kw_only=True)
class MarginalSettings:
    """Settings of all of them; each takes those that it knows.

    Args:
        noise: standard deviation of energy discrepancy's perturbation and of denoising's noise, in units of the network's
            coordinates; in columns of a table that are narrower than 1, in units of their own deviation. Coordinates at unit
            variance of a covariance that was shrunk have such columns, where noise of one scale would be told with certainty.
        draws: of energy discrepancy.
        latent: features of a generator's z, for VERA and MEG.
        generator_width: units of the three layers of a table's generator.
        generator_channels: of an image's generator, before each doubling.
        entropy_weight, gradient_penalty, penalty_every: of VERA and MEG.
        entropy_samples: of VERA; all by default.
        sigma_bounds: of the generator's noise.
        energy_square: of VERA, MEG and SGLD: how energies are held near zero.
        chain_steps, step_size, chain_noise: of SGLD, from a replay buffer as in JEM: a step follows half of ``step_size``
            times the slope.
        restarts: share of its chains that start anew.
        buffer: chains that it keeps.
    """

    noise: float = 0.1
    draws: int = 4
    latent: int = 64
    generator_width: int = 500
    generator_channels: Sequence[int] = (64, 32)
    entropy_weight: float = 1e-2
    gradient_penalty: float = 0.1
    penalty_every: int = 1
    entropy_samples: int | None = None
    sigma_bounds: tuple[float, float] = (0.01, 0.3)
    energy_square: float = 0.0
    chain_steps: int = 20
    step_size: float = 2.0
    chain_noise: float = 0.01
    restarts: float = 0.05
    buffer: int = 10_000

    def __post_init__(self) -> None:
        require_in_unit_interval("restarts", self.restarts)
        if self.entropy_samples is not None:
            require_positive_int("entropy_samples", self.entropy_samples)
        for width in self.generator_channels:
            require_positive_int("generator_channels", width)
        for name in ("noise", "step_size"):
            require_positive(name, getattr(self, name))
        for name in ("draws", "latent", "generator_width", "penalty_every", "chain_steps", "buffer"):
            require_positive_int(name, getattr(self, name))
        for name in ("entropy_weight", "gradient_penalty", "energy_square", "chain_noise"):
            require_non_negative(name, getattr(self, name))

    def build(self, marginal: Marginal, x: Tensor, seed: int) -> tuple[Objective | Loss | None, LatentGenerator | None]:
        """The objective for rows ``(N, *event)``, and its generator if it has one."""
        if marginal == "none":
            return None, None
        if marginal == "energy_discrepancy":
            scales = self._scales(x)
            t = scales**2 if isinstance(scales, float) else [scale**2 for scale in scales]
            return EnergyDiscrepancy(perturbation=Gaussian(t=t), draws=self.draws), None
        if marginal == "denoising":
            return DenoisingScoreMatching(scale=self._scales(x)), None
        if marginal == "sgld":
            return self._chains(x, seed), None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 1)
            net, critic = self._generator(x), self._critic(x)
        if marginal == "meg":
            return self._adversarial(net, critic), net
        vera = VERA(
            net,
            entropy_weight=self.entropy_weight,
            gradient_penalty=self.gradient_penalty,
            penalty_every=self.penalty_every,
            entropy_samples=self.entropy_samples,
            energy_square=self.energy_square,
        )
        return vera, net

    def _scales(self, x: Tensor) -> float | tuple[float, ...]:
        """One for images and for tables without a narrow column; else one for each column."""
        if x.dim() > 2:
            return self.noise
        narrow = x.double().std(0).clamp(_NARROWEST, 1)
        return self.noise if float(narrow.min()) > 1 - _ROUNDING else tuple((self.noise * narrow).tolist())

    def _adversarial(self, net: LatentGenerator, critic: MLPCritic | ConvCritic) -> MEG:
        return MEG(
            net,
            critic,
            entropy_weight=self.entropy_weight,
            gradient_penalty=self.gradient_penalty,
            penalty_every=self.penalty_every,
            energy_square=self.energy_square,
        )

    def _chains(self, x: Tensor, seed: int) -> PersistentContrastiveDivergence:
        """Chains start in a normal like the data, as in later work than JEM, whose uniform noise suits images alone."""
        rows = x.flatten(1)
        fitted = MultivariateNormal.fit(rows[torch.randperm(len(rows), generator=_source(seed))[:5000]])
        initial = _Shaped(fitted, x.shape[1:])
        chains = initial.sample(self.buffer, generator=_source(seed))
        return PersistentContrastiveDivergence(
            ReplayBuffer(chains),
            chain=Chain(steps=self.chain_steps, step_size=self.step_size, noise=self.chain_noise),
            initial=initial,
            restarts=self.restarts,
            energy_square=self.energy_square,
        )

    def _generator(self, x: Tensor) -> LatentGenerator:
        low, high = self.sigma_bounds
        sigma = min(max(0.1, low), high)
        if x.dim() == 2:
            return MLPGenerator(
                self.latent, x.shape[1], width=self.generator_width, sigma=sigma, sigma_bounds=self.sigma_bounds
            )
        channels, size = x.shape[1:3]
        return DeconvGenerator(
            self.latent,
            channels=channels,
            size=size,
            widths=self.generator_channels,
            sigma=sigma,
            sigma_bounds=self.sigma_bounds,
        )

    def _critic(self, x: Tensor) -> MLPCritic | ConvCritic:
        if x.dim() == 2:
            return MLPCritic(x.shape[1], self.latent, width=self.generator_width)
        channels, size = x.shape[1:3]
        return ConvCritic(self.latent, channels=channels, size=size)


class _Shaped(nn.Module):
    """A density of flat rows as one of images."""

    def __init__(self, density: MultivariateNormal, event: Sequence[int]) -> None:
        super().__init__()
        self.density, self.event = density, tuple(event)

    def log_prob(self, x: Tensor, /) -> Tensor:
        return self.density.log_prob(x.flatten(1))

    def sample(self, n: int, /, *, generator: torch.Generator | None = None) -> Tensor:
        rows = self.density.sample(n, generator=generator)
        return rows.view(n, *self.event)


def _source(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
