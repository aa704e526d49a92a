"""Sampling-importance-resampling from a generator: no chain, and the modes in their right shares."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor

from ..checks import energy_values, require_finite, require_positive_int
from ..energies.classifier import JointEnergy
from ..functional.entropy import mixture_log_prob
from ..functional.importance import Weights, self_normalised
from ..generators.base import LatentGenerator
from ..typing import Energy

__all__ = ["Resampled", "resample", "resample_class"]


class Resampled(NamedTuple):
    """What :func:`resample` and :func:`resample_class` return.

    Args:
        x: ``(n, *event)``.
        effective_sample_size: of the proposals' weights, a 0-d tensor. Far more than n distinct samples cannot be told from
            fewer: draw no more than a part of it.
    """

    x: Tensor
    effective_sample_size: Tensor


@torch.no_grad()
def resample(
    energy: Energy,
    net: LatentGenerator,
    n: int,
    *,
    proposals: int = 4096,
    generator: torch.Generator | None = None,
) -> Resampled:
    r"""Draw from :math:`p \propto e^{-E}` by weighting the generator's samples with :math:`e^{-E}/q` and resampling.

    q is the mixture of kernels around the proposals' own means, whose density is exact. A generator fitted by gradients has
    modes in the shares they had at the temperature at which they parted (:func:`chainfree.fit_generator`); no gradient
    moves mass between far modes, weights do. For few data dimensions, as :class:`chainfree.objectives.WeightedNegatives`.
    Systematic resampling (Kitagawa, 1996): a proposal of weight w is taken nw times, rounded up or down.

    Args:
        energy: ``(B, *event) -> (B,)``.
        net: a generator that covers the energy.
        n: samples, at most ``proposals``.
        proposals: B; time and memory are its square.
        generator: source of randomness.

    Raises:
        ValueError: more samples than proposals, or weights that are not finite.
    """
    require_positive_int("n", n)
    require_positive_int("proposals", proposals)
    if n > proposals:
        raise ValueError(f"n must be at most proposals, got n={n} and proposals={proposals}; raise proposals")
    draw = copy.deepcopy(net).eval().sample(proposals, generator=generator)
    log_weights = -energy_values(energy, draw.x) - mixture_log_prob(draw.x, draw.mean, net.log_sigma)
    if not bool(torch.isfinite(log_weights).all()):
        raise ValueError("the energy is not finite on the generator's samples; fit the generator to it first")
    return _systematic(draw.x, self_normalised(log_weights.double()), n, generator)


@torch.no_grad()
def resample_class(
    energy: JointEnergy,
    x: Tensor,
    y: int,
    n: int,
    *,
    batch: int = 1000,
    generator: torch.Generator | None = None,
) -> Resampled:
    r"""Draw from :math:`p(x \mid y) \propto p(x)\,p(y \mid x)` by resampling draws of the marginal.

    Draws of another density q come out in proportion to :math:`q(x)\,p(y \mid x)`, and nothing here can tell: a generator
    that was trained with an entropy weight λ other than one is after :math:`p^{1/\lambda}`. Where that matters,
    :func:`resample` it to p first.

    Args:
        energy: whose :math:`p(y \mid x)` are the weights.
        x: draws of the marginal, ``(B, *event)``: a sampler's, or a generator's that was trained with this energy.
        y: the class.
        n: samples, at most B; of a class that has few of the draws, the same ones come again.
        batch: draws that are weighed at a time.
        generator: source of randomness.

    Raises:
        ValueError: more samples than draws, no such class, logits that are not finite, or a class that not even one of the
            draws is expected to be of.
    """
    require_positive_int("n", n)
    require_positive_int("batch", batch)
    if n > len(x):
        raise ValueError(f"n must be at most the number of draws, got n={n} and {len(x)}; draw more")
    energy.given(y)  # refuses what is no class
    log_weights = torch.cat([energy.class_log_probs(part)[:, y] for part in x.split(batch)]).double()
    require_finite("the classes' log-probabilities of the draws", log_weights)
    expected = float(log_weights.exp().sum())
    if expected < 1:
        raise ValueError(
            f"of {len(x)} draws {expected:.2g} are expected to be of class {y}; draw more, or train longer"
        )
    return _systematic(x, self_normalised(log_weights), n, generator)


def _systematic(x: Tensor, weights: Weights, n: int, generator: torch.Generator | None) -> Resampled:
    start = torch.rand((), generator=generator, device=x.device, dtype=torch.float64)
    places = (torch.arange(n, device=x.device, dtype=torch.float64) + start) / n
    index = torch.searchsorted(weights.values.cumsum(0), places).clamp_max(len(x) - 1)
    # in systematic order neighbours are equal; the caller may take the first few
    shuffled = torch.randperm(n, generator=generator, device=x.device)
    return Resampled(x[index[shuffled]], weights.effective_sample_size)
