r"""The negative phase of a game between an energy and a generator.

The gradient of the log-likelihood needs :math:`E_{p_E}[\nabla E]`. The plain game takes the generator's samples as if they
were the energy's. :class:`WeightedNegatives` corrects them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from ..checks import log_prob_values, require_non_negative, require_positive
from ..entropy import local_log_prob
from ..functional.entropy import mixture_log_prob
from ..generators.base import Draw, LatentGenerator
from ..typing import Density

__all__ = ["Proposals", "WeightedNegatives"]


class Proposals(NamedTuple):
    """Rows to weight and the density they were drawn from.

    Args:
        x: ``(N, *event)``, detached: the generator's samples first.
        log_density: of the mixture that all rows are drawn from, in nats, ``(N,)``.
    """

    x: Tensor
    log_density: Tensor


@dataclass(frozen=True, kw_only=True)
class WeightedNegatives:
    r"""Self-normalised importance weights :math:`w \propto e^{-E(x)}/q(x)`, so that the energy follows maximum likelihood.

    The samples of one round are a stratified draw of the mixture :math:`\frac1B\sum_b N(g(z_b), \sigma^2 I)` of that
    round's own means, whose density is known exactly. So nothing about the generator's density is estimated, and the
    generator need only cover the energy, not match it. The kernels must overlap for the weights to be even, which takes
    few data dimensions and many samples (two or three times the data's, in the plane).

    Two things keep the weights bounded where the generator has not yet been. A share of the proposals comes from a wide
    ``defensive`` density (Hesterberg, 1995), and ``covering`` adds to the generator's loss the cross-entropy
    :math:`-\sum_n w_n \log q(x_n)`, the forward divergence from the energy, as in reweighted wake-sleep (Bornschein and
    Bengio, 2015, arXiv 1406.2751): the reverse divergence alone never finds a mode it has left.

    Beyond a few dimensions the kernels do not overlap, and a sample's density is its own kernel's alone, which says
    nothing of where it is. ``density="local"`` takes the generator's (:func:`chainfree.entropy.local_log_prob`). It needs
    a generator that matches the energy, which the effective sample size tells, and one that neither bends within its
    noise nor folds, which it does not tell. It is known at the generator's own samples only, so there are no defensive
    rows and no covering term with it. A flow fitted to the data is a third way: a ``defensive`` density that is exact in
    any dimension.

    Args:
        density: of the generator's samples: that of the mixture around their means, or the local one.
        defensive: a density as wide as the data, or ``None``.
        share: defensive rows for every sample of the generator.
        covering: weight of the cross-entropy in the generator's loss; by default 1, and 0 with the local density.
        clip: largest weight in units of the mean one, or ``None``. Clipping hides the modes that the generator misses.

    Raises:
        ValueError: a setting out of its range, a clip of 1 or less, or what the local density does not go with.
    """

    density: Literal["mixture", "local"] = "mixture"
    defensive: Density | None = None
    share: float = 0.25
    covering: float | None = None
    clip: float | None = None

    def __post_init__(self) -> None:
        require_positive("share", self.share)
        if self.density not in ("mixture", "local"):
            raise ValueError(f"density must be 'mixture' or 'local', got {self.density!r}")
        if self.covering is not None:
            require_non_negative("covering", self.covering)
        if self.density == "local" and (self.defensive is not None or self.covering):
            raise ValueError(
                "density='local' is known at the generator's own samples only; leave out defensive and covering"
            )
        if self.clip is not None and not 1 < self.clip < math.inf:
            raise ValueError(f"clip is in units of the mean weight and must be above 1, got {self.clip!r}")

    @property
    def covering_weight(self) -> float:
        """The weight of the cross-entropy, given or by default."""
        if self.covering is None:
            return 0.0 if self.density == "local" else 1.0
        return self.covering

    @torch.no_grad()
    def propose(self, net: LatentGenerator, draw: Draw, generator: torch.Generator | None) -> Proposals:
        """The draw's samples, the defensive rows, and the density of their mixture at all of them."""
        x = draw.x.detach()
        if self.density == "local":
            return Proposals(x, local_log_prob(net, draw))
        if self.defensive is None:
            return Proposals(x, mixture_log_prob(x, draw.mean, net.log_sigma))
        extra = max(1, round(self.share * len(x)))
        x = torch.cat([x, self.defensive.sample(extra, generator=generator).to(x)])
        here = math.log(len(draw.x) / len(x)) + mixture_log_prob(x, draw.mean, net.log_sigma)
        wide = math.log(extra / len(x)) + log_prob_values(self.defensive, x)
        return Proposals(x, torch.logaddexp(here, wide))

    def held_modules(self) -> nn.ModuleList:
        """The defensive density where it is a module, for the objective to move and save with itself."""
        return nn.ModuleList([self.defensive] if isinstance(self.defensive, nn.Module) else [])
