r"""Samples of an energy by chains in a generator's latent space.

Where :math:`x = g(z) + \sigma\varepsilon` and :math:`(z, \varepsilon)` is standard normal, x has the generator's density q. A
chain in :math:`(z, \varepsilon)` that targets :math:`f(x)\, N(z)\, N(\varepsilon)` has the law :math:`f(x)\, q(x)` of x,
normalised: f is constant over the pairs that give the same x, and their prior mass is q(x). So :math:`f = e^{-E}` samples
:math:`q\,e^{-E}`, and :math:`f = e^{-E}/q` samples :math:`e^{-E}`.

q is not known. A bank of latents :math:`z_1, \dots, z_N` of the prior gives

.. math:: \hat q(x, z) = \tfrac1{N+1}\Bigl(N(x; g(z), \sigma^2 I) + \sum_n N(x; g(z_n), \sigma^2 I)\Bigr)

with the chain's own z among them. The law of x is then :math:`e^{-E(x)} R(x)` with
:math:`R(x) = \int N(z)\, N(x; g(z), \sigma^2 I) / \hat q(x, z)\, dz`, and **over banks** :math:`E[R(x)] = 1` **at every x**:
z and the bank are N + 1 exchangeable draws, so the numerator may be replaced by the average over all of them, which is the
denominator. Without its own z the mixture would have lighter tails than q, :math:`q/\hat q` could outgrow :math:`e^{-E}`, and
there would be nothing to sample.

Grathwohl et al., "No MCMC for Me", ICLR 2021, arXiv 2010.04230.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ..checks import ContractError, energy_values, require_non_negative, require_positive_int
from ..functional.entropy import mixture_log_prob
from ..generators.base import Draw, LatentGenerator
from ..generators.normalisation import Statistics
from ..typing import Energy
from . import mala
from .adaptation import adapt, start_adaptation

__all__ = ["RefineInfo", "refine"]


class RefineInfo(NamedTuple):
    """How the chains of :func:`refine` went.

    Args:
        acceptance: mean acceptance probability of each chain over the steps of fixed size, ``(B,)``.
        step_size: the one that adaptation ended with, a 0-d tensor, in squared units of the latents.
    """

    acceptance: Tensor
    step_size: Tensor


@torch.no_grad()
def refine(
    energy: Energy,
    net: LatentGenerator,
    *,
    correction: Literal["bank", "none"],
    n: int | None = None,
    draw: Draw | None = None,
    bank: int | Tensor = 1024,
    steps: int = 100,
    adaptation: int | None = None,
    target: float = 0.57,
    step_size: float = 0.1,
    generator: torch.Generator | None = None,
) -> tuple[Draw, RefineInfo]:
    r"""Move a generator's samples by MALA in :math:`(z, \varepsilon)` jointly.

    The log-density of the chains is that of the prior plus

    - ``"none"``: :math:`-E(x)`, the paper's. **The law of x is** :math:`q(x)\,e^{-E(x)}`, **not** :math:`e^{-E(x)}`: narrower
      than both where they agree, and never where the generator is not.
    - ``"bank"``: :math:`-E(x) - \log \hat q(x, z)`, with the mixture of N(m, σ² I) around a fixed bank of the generator's
      means and the chain's own. The law of x is the energy's up to a factor R(x) that is 1 on average over banks and differs
      from it the less, the more kernels overlap at x: for few data dimensions, and a σ not far below the distance of
      neighbouring means. Costs B times the bank in time and memory at every step.

    Chains in latent space pass between modes where the generator joins them; few steps do not leave what it covers. The
    generator is used as :meth:`LatentGenerator.decode` gives it, so nothing in it changes. One with batch norms is used with
    the statistics of ``draw``, and without one only in evaluation mode.

    Args:
        energy: ``(B, *event) -> (B,)``, in nats.
        net: the generator; neither it nor the energy gets gradients.
        correction: what the chains target, see above.
        n: chains, started in the prior.
        draw: or where to start them, of the generator or an earlier call.
        bank: N, for latents drawn here, or the means themselves, ``(N, *event)``, g of independent draws of the prior.
            Not used without correction.
        steps: of MALA, one forward and backward pass through the generator and the energy each.
        adaptation: of these the first, which settle the step size; half of them by default. Only later ones are exact.
        target: mean acceptance that adaptation aims at.
        step_size: at the start, in squared units of the latents.
        generator: source of randomness on the device of the generator.

    Returns:
        The samples with their latents, means and noise, without a graph, and a :class:`RefineInfo`.

    Raises:
        ValueError: a setting out of its range, an unknown correction, or not exactly one of ``n`` and ``draw``.
        ContractError: the energy's shape is not ``(B,)``, a bank or draw is of another event shape than the generator's, or
            there are batch norms in training mode and no draw whose statistics they could take.
    """
    require_positive_int("steps", steps)
    adaptation = steps // 2 if adaptation is None else adaptation
    require_non_negative("adaptation", adaptation)
    if not isinstance(adaptation, int) or adaptation >= steps:
        raise ValueError(f"adaptation must leave some of the {steps} steps, got {adaptation!r}; lower it")
    if correction not in ("bank", "none"):
        raise ValueError(f"correction must be 'bank' or 'none', got {correction!r}")
    statistics = () if draw is None else draw.constants
    means = _bank(net, bank, statistics, generator) if correction == "bank" else None
    sigma, log_sigma = net.sigma.detach(), net.log_sigma.detach()

    def log_density(pair: Tensor) -> Tensor:
        x, _, mean, *_ = _decoded(net, pair, sigma, statistics)
        values = -energy_values(energy, x) - 0.5 * pair.square().sum(1)
        if means is None:
            return values
        others = mixture_log_prob(x, means, log_sigma) + math.log(len(means))
        return values - torch.logaddexp(others, net.log_likelihood(x, mean)) + math.log(len(means) + 1)

    start = _start(net, n, draw, generator)
    state = mala.init(log_density, start)
    size = start_adaptation(step_size, start)
    for _ in range(adaptation):
        state, info = mala.step(log_density, state, step_size=size.step_size, generator=generator)
        size = adapt(size, info.acceptance, target=target)
    acceptance = torch.zeros_like(state.log_density)
    for _ in range(steps - adaptation):
        state, info = mala.step(log_density, state, step_size=size.average, generator=generator)
        acceptance += info.acceptance
    return _decoded(net, state.x, sigma, statistics), RefineInfo(acceptance / (steps - adaptation), size.average)


def _start(net: LatentGenerator, n: int | None, draw: Draw | None, generator: torch.Generator | None) -> Tensor:
    """Latents and noise side by side, ``(B, latent_dim + dim)``."""
    if (n is None) == (draw is None):
        raise ValueError("give either n, for chains that start in the prior, or the draw to start from")
    if draw is not None:
        if draw.z.shape[1:] != (net.latent_dim,) or draw.noise.shape[1:] != net.event_shape:
            raise ContractError(
                f"the draw has latents of {tuple(draw.z.shape[1:])} and noise of {tuple(draw.noise.shape[1:])}, the "
                f"generator {(net.latent_dim,)} and {net.event_shape}; draw it from this generator"
            )
        return torch.cat([draw.z, draw.noise.flatten(1)], dim=1).detach()
    assert n is not None
    require_positive_int("n", n)
    like = net.log_sigma
    return torch.randn(n, net.latent_dim + net.dim, generator=generator, device=like.device, dtype=like.dtype)


def _bank(
    net: LatentGenerator, bank: int | Tensor, statistics: Statistics, generator: torch.Generator | None
) -> Tensor:
    if isinstance(bank, Tensor):
        if bank.shape[1:] != net.event_shape or not len(bank):
            raise ContractError(f"the bank must be means (N, {net.event_shape}), got {tuple(bank.shape)}")
        return bank.detach()
    require_positive_int("bank", bank)
    return net.decode(net.latents(bank, generator), statistics).detach()


def _decoded(net: LatentGenerator, pair: Tensor, sigma: Tensor, statistics: Statistics) -> Draw:
    z, noise = pair[:, : net.latent_dim], pair[:, net.latent_dim :].unflatten(1, net.event_shape)
    mean = net.decode(z, statistics)
    return Draw(mean + sigma * noise, z, mean, noise, statistics)
