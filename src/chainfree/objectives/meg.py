"""MEG: a generator that is kept spread out by the information which its samples hold about their latents.

Kumar, Ozair, Goyal, Courville, Bengio, "Maximum Entropy Generators for Energy-Based Models", 2019, arXiv 1901.08508. The
bound is that of Hjelm et al., "Learning Deep Representations by Mutual Information Estimation and Maximization", ICLR 2019,
arXiv 1808.06670.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn.functional import softplus

from ..checks import ContractError, require_non_negative, require_positive_int
from ..functional.contrastive import PenaltyAt, contrast, descent, require_penalty_at
from ..generators.base import Draw, LatentGenerator
from ..typing import Batch, Energy, Update
from .parameters import trainable

__all__ = ["MEG", "jensen_shannon_bound"]


class MEG(nn.Module):
    r"""The game of :class:`VERA` with the entropy replaced by a critic's bound on mutual information.

    .. math::
        L_E &= E_p[E(x)] - E_q[E(x)] + \tfrac\gamma2\, E_m\lVert\nabla_x E\rVert^2 + \alpha\,(E_p[E^2] + E_q[E^2]) \\
        L_T &= -\hat I_T(x; z) \\
        L_q &= E_q[E(x)] - \lambda\,\hat I_T(x; z)

    with :math:`\hat I_T` of :func:`jensen_shannon_bound`. For a generator without noise, information and entropy differ by a
    constant. Two things follow from what stands in for it. The bound never exceeds :math:`2 \log 2` nats, which few latents
    already reach: it tells collapsed generators from others and does not measure entropies, so no λ makes the generator
    match the energy. And :math:`H(x \mid z) = D \log\sigma` + const is left out, as the paper's generators have no noise: σ
    tends to its lower bound.

    Players in the order of their turns: ``energy``; ``critic``; ``generator``, on the samples that the energy saw last.

    Args:
        generator: q.
        critic: T, a module ``(x, z) -> (B,)``: :class:`chainfree.generators.MLPCritic`,
            :class:`chainfree.generators.ConvCritic` or any other. A function of one pair: no normalisation over the batch.
        entropy_weight: λ, in nats of energy per nat of the bound.
        gradient_penalty: γ, in nats times squared units of the data.
        penalty_at, penalty_every: what m is, and at how many of its rows; see
            :func:`chainfree.functional.contrastive.contrast`.
        energy_square: α.
        samples: of the generator a round, at least 2; as many as data by default.
        energy_steps: turns of the energy a round, each on fresh samples.

    Raises:
        ValueError: a setting out of its range.
    """

    def __init__(
        self,
        generator: LatentGenerator,
        critic: nn.Module,
        *,
        entropy_weight: float = 1.0,
        gradient_penalty: float = 0.1,
        penalty_at: PenaltyAt = "data",
        penalty_every: int = 1,
        energy_square: float = 0.0,
        samples: int | None = None,
        energy_steps: int = 1,
    ) -> None:
        super().__init__()
        require_non_negative("entropy_weight", entropy_weight)
        require_non_negative("gradient_penalty", gradient_penalty)
        require_penalty_at(penalty_at)
        require_positive_int("penalty_every", penalty_every)
        require_non_negative("energy_square", energy_square)
        require_positive_int("energy_steps", energy_steps)
        if samples is not None:
            require_positive_int("samples", samples)
            _require_pairs(samples)
        self.generator = generator
        self.critic = critic
        self.entropy_weight = entropy_weight
        self.gradient_penalty = gradient_penalty
        self.penalty_at: PenaltyAt = penalty_at
        self.penalty_every = penalty_every
        self.energy_square = energy_square
        self.samples = samples
        self.energy_steps = energy_steps

    def players(self, energy: nn.Module, /) -> Mapping[str, Sequence[Parameter]]:
        """The energy, the critic, the generator."""
        return {"energy": trainable(energy), "critic": trainable(self.critic), "generator": trainable(self.generator)}

    def updates(self, energy: Energy, batch: Batch, step: int, generator: torch.Generator) -> Iterator[Update]:
        """The turns of one round."""
        n = len(batch) if self.samples is None else self.samples
        _require_pairs(n)
        for turn in range(self.energy_steps):
            last = turn + 1 == self.energy_steps
            # only the last samples are differentiated: the generator's turn is on them
            with torch.set_grad_enabled(last and torch.is_grad_enabled()):
                draw = self.generator.sample(n, generator=generator)
            yield self.energy_loss(energy, batch, draw.x.detach())
        yield self.critic_loss(draw)
        yield self.generator_loss(energy, draw)

    def energy_loss(self, energy: Energy, batch: Batch, fake: Tensor) -> Update:
        """The energy's turn: see :func:`chainfree.functional.contrastive.contrast`."""
        found = contrast(
            energy,
            batch.x,
            fake,
            gradient_penalty=self.gradient_penalty,
            penalty_at=self.penalty_at,
            penalty_every=self.penalty_every,
            energy_square=self.energy_square,
        )
        metrics = {
            "energy_data": found.data.detach().mean(),
            "energy_samples": found.samples.detach().mean(),
            "sigma": self.generator.sigma.detach(),
        }
        return Update("energy", found.loss, metrics)

    def critic_loss(self, draw: Draw) -> Update:
        """The critic's turn: up the bound, at fixed samples."""
        information = self.information(draw.x.detach(), draw.z).mean()
        return Update("critic", -information, {"information": information.detach()})

    def generator_loss(self, energy: Energy, draw: Draw) -> Update:
        """The generator's turn: down the energy, up the bound of the critic as it is now."""
        loss, _ = descent(energy, draw.x)
        if self.entropy_weight:
            loss = loss - self.entropy_weight * self.information(draw.x, draw.z).mean()
        return Update("generator", loss)

    def information(self, x: Tensor, z: Tensor) -> Tensor:
        """The bound's terms in nats, ``(B, *event), (B, K) -> (B,)``: each row against its own latent and its neighbour's.

        Rows are independent, so the neighbour's latent is a draw of the prior that knows nothing of this row. A random
        permutation would leave one row in its place on average.

        Raises:
            ContractError: the critic does not return one number a pair.
        """
        # both in one pass, so that nothing is launched twice
        values = self.critic(torch.cat([x, x]), torch.cat([z, z.roll(1, dims=0)]))
        if values.shape != (2 * len(x),):
            raise ContractError(
                f"the critic returned shape {tuple(values.shape)} for {2 * len(x)} pairs; return one number per pair, "
                "shape (B,)"
            )
        matching, shuffled = (values.float() if values.dtype in (torch.float16, torch.bfloat16) else values).chunk(2)
        return jensen_shannon_bound(matching, shuffled)


def jensen_shannon_bound(matching: Tensor, shuffled: Tensor) -> Tensor:
    r""":math:`2\log 2 - \mathrm{softplus}(-T(x, z)) - \mathrm{softplus}(T(x, z'))` of every row.

    Its mean bounds twice the Jensen-Shannon divergence between the pairs' joint law and the product of their marginals from
    below. It is 0 for a critic that says nothing, at most :math:`2 \log 2`, and greatest at the pointwise mutual information
    :math:`T = \log p(x, z) / p(x) p(z)` (Nowozin et al., NeurIPS 2016, arXiv 1606.00709).

    Args:
        matching: T at pairs of the joint law, ``(B,)``.
        shuffled: T at pairs of the product, ``(B,)``.

    Returns:
        Nats, ``(B,)``.

    >>> jensen_shannon_bound(torch.zeros(2), torch.zeros(2))
    tensor([0., 0.])
    """
    return 2 * math.log(2) - softplus(-matching) - softplus(shuffled)


def _require_pairs(samples: int) -> None:
    if samples < 2:
        raise ValueError(f"shuffled latents take at least 2 samples a round, got {samples!r}; raise samples")
