r"""A decoder whose latents have an energy: :math:`p(x, z) = p(x \mid z)\, e^{-E(z)} / Z`.

Pang, Han, Nijkamp, Zhu, Wu, "Learning Latent Space Energy-Based Prior Model", NeurIPS 2020, arXiv 2006.08205. Trained by
:class:`chainfree.objectives.LatentPrior`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, get_args

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ..checks import ContractError, energy_values, require_positive_int
from ..generators import LatentGenerator
from ..typing import Energy
from .encoder import GaussianEncoder

__all__ = [
    "Interpolation",
    "LatentModel",
    "LatentScores",
    "LatentsOfPrior",
    "LatentsOfRows",
    "Likelihood",
    "LogLikelihoods",
    "require_likelihood",
]

Likelihood = Literal["gaussian", "bernoulli"]
_AT_ONCE = 256  # rows
_DRAWS_AT_ONCE = 1024  # of several rows
_SMALL = 1e-3  # of an angle, whose sine it is then


def require_likelihood(likelihood: str) -> None:
    """Raise ``ValueError`` unless there is such a likelihood."""
    if likelihood not in get_args(Likelihood):
        raise ValueError(f"likelihood must be 'gaussian' or 'bernoulli', got {likelihood!r}")


class LatentsOfRows(Protocol):
    """A posterior: :class:`chainfree.latent.LangevinPosterior` and its kind."""

    def latents(self, model: LatentModel, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """One draw of each row's latents, ``(B, *event) -> (B, latent_dim)``, without a graph."""
        ...


class LatentsOfPrior(Protocol):
    """A way to draw from the prior: :class:`chainfree.latent.LangevinPrior` and its kind."""

    def latents(self, model: LatentModel, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """``n`` draws, ``(n, latent_dim)``, without a graph."""
        ...


class Interpolation(NamedTuple):
    """What :meth:`LatentModel.interpolate` returns.

    Args:
        rows: on the way, without noise, ``(points, B, *event)``.
        latents: that they are decoded from, ``(points, B, latent_dim)``.
        energies: of the prior there, in nats, ``(points, B)``: higher where latents are unlikely.
    """

    rows: Tensor
    latents: Tensor
    energies: Tensor


class LatentScores(NamedTuple):
    r"""What :meth:`LatentModel.anomaly_score` returns; both float64, high for rows unlike the data.

    The likelihood counts every pixel by itself, so that how hard a row is to draw can outweigh what it is. The prior asks
    where the row's latents lie among those that were seen, and nothing of what they leave out.

    Args:
        joint: :math:`-E_{q(z|x)} \log p(x, z)` up to log Z, q the posterior that was given, in nats, ``(B,)``.
        prior: :math:`E_{q(z|x)} E(z)`, in nats, ``(B,)``.
    """

    joint: Tensor
    prior: Tensor


class LogLikelihoods(NamedTuple):
    """What :meth:`LatentModel.log_likelihood` returns.

    Args:
        values: of every row, in nats, up to the prior's log Z, ``(B,)``: too low on average, the less the more draws.
        effective_draws: Kish's effective number of each row's draws, ``(B,)``.
    """

    values: Tensor
    effective_draws: Tensor


@dataclass(frozen=True)
class LatentModel:
    """Rows and their latents together.

    Args:
        prior: energy of the latents, ``(B, latent_dim) -> (B,)``, in nats; :func:`chainfree.latent.latent_prior` makes one.
        decoder: mean of a row given its latents, and the noise scale of the Gaussian likelihood.
        likelihood: ``"gaussian"`` with the decoder's σ, or ``"bernoulli"`` of bits, of whose logits the decoder gives the
            means: leave out its last activation.
    """

    prior: Energy
    decoder: LatentGenerator
    likelihood: Likelihood = "gaussian"

    def __post_init__(self) -> None:
        require_likelihood(self.likelihood)

    def log_conditional(self, x: Tensor, z: Tensor) -> Tensor:
        r""":math:`\log p(x \mid z)` in nats, ``(B,)``; the rows may have several latents, ``(draws, B, latent_dim)``.

        Raises:
            ContractError: rows of another shape than the decoder's, other numbers of rows and of latents, or, on the
                processor, a Bernoulli's rows beyond 0 and 1.
        """
        if z.shape[-2] != len(x):
            raise ContractError(f"{len(x)} rows need as many latents, got {z.shape[-2]}")
        if x.shape[1:] != self.decoder.event_shape:
            raise ContractError(
                f"rows of shape {tuple(x.shape[1:])}, and the decoder makes {self.decoder.event_shape}; make it for the data"
            )
        if self.likelihood == "bernoulli" and x.device.type == "cpu" and len(x):  # elsewhere looking would wait
            low, high = (float(end) for end in x.aminmax())
            if low < 0 or high > 1:
                raise ContractError(f"a Bernoulli's rows are from 0 to 1, got {low:g} to {high:g}; rescale them")
        mean = self.decoder.decode(z.flatten(0, -2)).unflatten(0, z.shape[:-1])
        if self.likelihood == "gaussian":
            return self.decoder.log_likelihood(x, mean)
        log_probs: Tensor = (x * mean - softplus(mean)).flatten(z.dim() - 1).sum(-1)
        return log_probs

    def log_joint(self, x: Tensor, z: Tensor) -> Tensor:
        r""":math:`\log p(x \mid z) - E(z)` in nats, ``(B,)``: the log-posterior of z up to a constant of the row."""
        prior = energy_values(self.prior, z.flatten(0, -2)).view(z.shape[:-1])
        return self.log_conditional(x, z) - prior

    def given(self, x: Tensor) -> Energy:
        """The energy of the latents of these rows, ``(B, latent_dim) -> (B,)``: row by row, in their order."""
        return lambda z: -self.log_joint(x, z)

    def mean(self, z: Tensor) -> Tensor:
        """Rows without noise, ``(B, *event)``: pixels, or of bits their probabilities."""
        mean = self.decoder.decode(z)
        return mean if self.likelihood == "gaussian" else torch.sigmoid(mean)

    @torch.no_grad()
    def reconstruct(self, x: Tensor, posterior: LatentsOfRows, *, generator: torch.Generator | None = None) -> Tensor:
        """What rows look like through their latents, without noise, ``(B, *event)``.

        Args:
            x: rows, ``(B, *event)``.
            posterior: of which each row has one draw.
            generator: source of randomness on the device of the rows.
        """
        parts = x.split(_AT_ONCE)
        return torch.cat([self.mean(posterior.latents(self, part, generator=generator)) for part in parts])

    @torch.no_grad()
    def sample(self, n: int, prior: LatentsOfPrior, *, generator: torch.Generator | None = None) -> Tensor:
        """New rows without noise, ``(n, *event)``.

        Args:
            n: rows.
            prior: how their latents are drawn.
            generator: source of randomness on the device of the decoder.

        Raises:
            ValueError: ``n`` below 1.
        """
        require_positive_int("n", n)
        z = prior.latents(self, n, generator=generator)
        return torch.cat([self.mean(part) for part in z.split(_AT_ONCE)])

    @torch.no_grad()
    def anomaly_score(
        self, x: Tensor, posterior: LatentsOfRows, *, draws: int = 1, generator: torch.Generator | None = None
    ) -> LatentScores:
        r"""How unlike the data rows are, by all of the model and by its prior alone.

        Args:
            x: rows, ``(B, *event)``.
            posterior: of whose draws the mean is taken.
            draws: of each row; one after the other, so that memory does not grow with them.
            generator: source of randomness on the device of the rows.
        """
        require_positive_int("draws", draws)
        found = []
        for part in x.split(_AT_ONCE):
            totals = torch.zeros(2, len(part), dtype=torch.float64, device=part.device)
            for _ in range(draws):
                z = posterior.latents(self, part, generator=generator)
                of_prior = energy_values(self.prior, z)
                totals += torch.stack([of_prior - self.log_conditional(part, z), of_prior])
            found.append(totals / draws)
        return LatentScores(*torch.cat(found, 1))

    @torch.no_grad()
    def interpolate(
        self,
        x: Tensor,
        y: Tensor,
        posterior: LatentsOfRows,
        *,
        points: int = 9,
        generator: torch.Generator | None = None,
    ) -> Interpolation:
        """Rows between rows: along the great circle of their latents, whose length changes evenly.

        For priors that are like normals in this: in many dimensions nearly all of one lies at one distance from the origin,
        and the straight way leads nearer to it. White, "Sampling Generative Networks", 2016, arXiv 1609.04468.

        Args:
            x, y: where to start and to end, ``(B, *event)``.
            posterior: of their latents.
            points: with both ends.
            generator: source of randomness on the device of the rows.

        Raises:
            ValueError: fewer than two points, or rows that are no pairs.
        """
        if points < 2:
            raise ValueError(f"points must be at least 2, both ends, got {points!r}")
        if x.shape != y.shape:
            raise ValueError(f"x and y must be as many rows of one shape, got {tuple(x.shape)} and {tuple(y.shape)}")
        parts = []
        for rows, others in zip(x.split(_AT_ONCE), y.split(_AT_ONCE), strict=True):
            start, end = (posterior.latents(self, part, generator=generator) for part in (rows, others))
            parts.append(self._way(start, end, points))
        return Interpolation(*(torch.cat(part, 1) for part in zip(*parts, strict=True)))

    def _way(self, start: Tensor, end: Tensor, points: int) -> Interpolation:
        shares = torch.linspace(0, 1, points, dtype=start.dtype, device=start.device).view(-1, 1, 1)
        latents = _great_circle(start, end, shares)
        rows = torch.stack([self.mean(z) for z in latents])
        energies = torch.stack([energy_values(self.prior, z) for z in latents])
        return Interpolation(rows, latents, energies)

    @torch.no_grad()
    def log_likelihood(
        self, x: Tensor, encoder: GaussianEncoder, *, draws: int = 64, generator: torch.Generator | None = None
    ) -> LogLikelihoods:
        r""":math:`\log p(x) + \log Z = \log E_{q(z|x)}\, p(x \mid z) e^{-E(z)} / q(z \mid x)`, by importance sampling.

        Args:
            x: rows, ``(B, *event)``.
            encoder: q, whose tails should be as wide as the posterior's.
            draws: of each row; their number is what memory grows with, not that of the rows.
            generator: source of randomness on the device of the rows.
        """
        require_positive_int("draws", draws)
        parts = []
        for part in x.split(max(1, _DRAWS_AT_ONCE // draws)):
            z, log_q = encoder.sample(part, draws=draws, generator=generator)
            log_weights = (self.log_joint(part, z) - log_q).double()
            effective = 1 / log_weights.softmax(0).square().sum(0)
            parts.append((torch.logsumexp(log_weights, 0) - math.log(draws), effective))
        return LogLikelihoods(*(torch.cat(found) for found in zip(*parts, strict=True)))


def _great_circle(start: Tensor, end: Tensor, shares: Tensor) -> Tensor:
    """Directions at even angles between two, ``(B, D)`` each, lengths in between: ``(points, B, D)``."""
    lengths = [z.norm(dim=1, keepdim=True).clamp_min(torch.finfo(z.dtype).tiny) for z in (start, end)]
    first, last = start / lengths[0], end / lengths[1]
    angle = torch.atan2((first - last).norm(dim=1, keepdim=True), (first + last).norm(dim=1, keepdim=True)) * 2
    # sin(s a) / sin(a), which is s as a falls to 0; of opposite directions no way is shortest, and the straight one is taken
    turning = (angle > _SMALL) & (angle < math.pi - _SMALL)
    weights = [torch.where(turning, (part * angle).sin() / angle.sin(), part) for part in (1 - shares, shares)]
    way: Tensor = (weights[0] * first + weights[1] * last) * (lengths[0] * (1 - shares) + lengths[1] * shares)
    return way
