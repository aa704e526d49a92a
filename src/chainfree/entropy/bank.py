r"""The entropy by a bank of the generator's own means: a kernel density, for few data dimensions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ..checks import require_non_negative
from ..functional.entropy import mixture_log_prob
from ..generators.base import Draw, LatentGenerator
from .base import EntropyEstimate

__all__ = ["PriorBank"]


@dataclass(frozen=True, kw_only=True)
class PriorBank:
    r""":math:`-\log q(x)` with :math:`q(x) = \frac1B \sum_b N(x; g(z_b), \sigma^2 I)`, differentiated in everything.

    The bank is the draw itself, and ``extra`` more latents. It sees all of the generator, also sheets that cross, and its
    value is an entropy: that of the mixture, which tends to the generator's as the bank grows. Its gradient along the
    means is a control variate, zero on average. Cost grows with the square of the batch. The kernels must overlap: with
    :math:`\sigma` a tenth of the data's width, a few hundred samples do in one and two data dimensions, barely in three, and
    from four on every sample sees its own kernel only, and the gradient is gone. Metric ``bank_overlap`` tells.

    Args:
        extra: latents beside the draw's own; one forward and one backward pass each.

    Raises:
        ValueError: ``extra`` is negative or no whole number.
    """

    extra: int = 0

    def __post_init__(self) -> None:
        require_non_negative("extra", self.extra)
        if not isinstance(self.extra, int):
            raise ValueError(f"extra must be a whole number of latents, got {self.extra!r}")

    @property
    def passes(self) -> float:
        """None beside the samples' own, but for what ``extra`` costs, which does not grow with the batch."""
        return 0.0

    def __call__(
        self, net: LatentGenerator, draw: Draw, *, generator: torch.Generator | None = None
    ) -> EntropyEstimate:
        """The estimate; metrics ``entropy`` in nats and ``bank_overlap``, the share of other kernels at a sample."""
        means = draw.mean
        if self.extra:
            means = torch.cat([means, net.decode(net.latents(self.extra, generator), draw.statistics)])
        surrogate = -mixture_log_prob(draw.x, means, net.log_sigma)
        entropy = surrogate.detach()
        # what a sample's own kernel alone would give: log B nats more than the mixture does where no other reaches it
        own = net.log_likelihood(draw.x, draw.mean).detach() - math.log(len(means))
        return EntropyEstimate(
            surrogate, {"entropy": entropy.mean(), "bank_overlap": 1 - torch.exp(own + entropy).mean()}
        )
